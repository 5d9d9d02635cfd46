"""What a library writes as it is loaded is not on the terminal; what follows is."""

import subprocess
import sys

import pytest

from tests.child import environment

CODE = """
import os
from bnpipe.data.quiet import quiet
try:
    with quiet():
        os.write(2, b"noise")
except OSError as error:
    os.write(1, error.strerror.encode())
os.write(1, b" after")
"""


@pytest.mark.parametrize(
    ("closed", "written"), [("", " after"), ("2>&-", "Bad file descriptor after")]
)
def test_lines_of_a_load_are_dropped_and_a_closed_stream_stays_closed(
    closed: str, written: str
) -> None:
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, CODE]
    run = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, written, "")
