"""A job server's process: answers, or says why not; and is gone with the run, however that ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.job_server import job_server, unreachable
from tests.child import WITH_TESTS, environment
from tests.waiting import is_gone, wait_for

# Listens on its first port, as a job server does.
_SERVER = """
import os, pathlib, socket, sys, time
pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
with socket.create_server(("localhost", int(sys.argv[1]))):
    time.sleep(600)
"""


def serving(process: Path) -> "type[list[str]]":
    """The command of a server that leaves its process id in a file."""

    def command(ports: Sequence[int], folder: Path) -> list[str]:
        assert folder.is_dir()
        return [sys.executable, "-c", _SERVER, str(ports[0]), str(process)]

    return command  # type: ignore[return-value]


def test_it_answers_within_the_block_and_is_gone_behind_it(tmp_path: Path) -> None:
    with job_server(serving(tmp_path / "pid"), tmp_path / "log") as ports:
        address = f"localhost:{ports[0]}"
        assert unreachable(address) is None
    assert is_gone(int((tmp_path / "pid").read_text()))
    assert unreachable(address) == "Connection refused"


def test_one_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    def command(ports: Sequence[int], folder: Path) -> list[str]:
        return [sys.executable, "-c", "raise SystemExit('no jar\\n\\tat Main.main')"]

    with (
        pytest.raises(EngineError, match=r"it ended with exit code 1; it said last: no jar") as it,
        job_server(command, tmp_path / "log"),
    ):
        pass
    assert not it.value.may_pass


def test_it_is_gone_with_a_run_that_was_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from bnpipe.data.engines.job_server import job_server\n"
        "from tests.data.engines.test_job_server import serving\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "with job_server(serving(folder / 'pid'), folder / 'log'):\n"
        "    print('up', flush=True); time.sleep(600)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment(**WITH_TESTS),
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        os.kill(child.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(int((tmp_path / "pid").read_text())))
