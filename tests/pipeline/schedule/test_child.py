"""A run in a process group of its own: ended in time, ended with us, ended as a whole."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule.child import read_trigger, supervise
from tests.child import environment
from tests.waiting import wait_for

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(999)"])
open(sys.argv[1], "w").write(str(helper.pid))
time.sleep(999)
"""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_command_that_ends_gives_its_exit_code() -> None:
    words = [sys.executable, "-c", "raise SystemExit(3)"]
    assert supervise(words, limit=None, grace=1, quiet=False) == 3


def test_at_the_limit_nothing_of_the_group_is_left(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    words = [sys.executable, "-c", STUBBORN, str(told)]
    with pytest.raises(TimeoutError):
        supervise(words, limit=timedelta(seconds=5), grace=0.1, quiet=False)
    wait_for(lambda: not is_alive(int(told.read_text())))


def test_a_run_ends_when_its_parent_dies(tmp_path: Path) -> None:
    child = (
        "import json, os, sys, time; from bnpipe.pipeline.schedule.child import read_trigger;"
        "trigger = {'slot': 'a', 'attempt': 1, 'reasons': [], 'parent': os.getppid()};"
        "read_trigger(json.dumps(trigger));"
        "open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(999)"
    )
    parent = (
        f"import subprocess, sys;subprocess.run([sys.executable, '-c', {child!r}, sys.argv[1]])"
    )
    told = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", parent, str(told)], env=environment())
    wait_for(lambda: told.exists() and told.read_text())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not is_alive(int(told.read_text())))


@pytest.mark.parametrize("text", ["", "{}", "[]", "7"])
def test_what_the_schedule_did_not_write_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--trigger"):
        read_trigger(text)
