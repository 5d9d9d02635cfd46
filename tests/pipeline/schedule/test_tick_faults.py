"""A tick that is killed, or meets a full or faulty disk, at any file-system call."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.child import WITH_TESTS, environment


@pytest.mark.parametrize("what", ["slot", "trial"])
@pytest.mark.parametrize("fault", ["kill", "tear", "enospc", "eio"])
def test_wherever_a_tick_stops_what_it_does_is_done_once(
    memory: Path, fault: str, what: str
) -> None:
    words = ["-m", "tests.pipeline.schedule.tick_crash_points", str(memory), fault, what]
    done = subprocess.run(
        [sys.executable, *words], env=environment(**WITH_TESTS), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= (5 if fault == "tear" else 50)
