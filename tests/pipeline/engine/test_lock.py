"""One run at a time per home."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnpipe.pipeline.engine.errors import ExitCode, LockHeld
from bnpipe.pipeline.engine.lock import is_held, run_lock
from bnpipe.pipeline.engine.store import Store
from tests.child import environment

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from bnpipe.pipeline.engine.lock import run_lock\n"
    "with run_lock(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(999)\n"
)


def holder(home: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    child = holder(tmp_path)
    try:
        with (
            pytest.raises(LockHeld, match=f"process {child.pid} on {platform.node()}") as caught,
            run_lock(tmp_path),
        ):
            pass
        assert caught.value.exit_code is ExitCode.LOCKED
        assert "BNPIPE_HOME" in caught.value.hint
        assert is_held(tmp_path)
    finally:
        child.kill()
        child.communicate()


def test_a_killed_holder_leaves_nothing_held(tmp_path: Path) -> None:
    child = holder(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not is_held(tmp_path)
    with run_lock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_it_can_be_taken_again_and_its_file_stays(tmp_path: Path) -> None:
    inodes = set()
    for _ in range(2):
        with run_lock(tmp_path / "home"):
            inodes.add((tmp_path / "home" / "lock").stat().st_ino)
    assert len(inodes) == 1


def test_an_error_inside_gives_it_back(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), run_lock(tmp_path):
        raise RuntimeError
    assert not is_held(tmp_path)


def test_two_homes_do_not_disturb_each_other(tmp_path: Path) -> None:
    with run_lock(tmp_path / "a"), run_lock(tmp_path / "b"):
        assert is_held(tmp_path / "a") and is_held(tmp_path / "b")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_an_unreadable_lock_file_still_locks(tmp_path: Path, content: str) -> None:
    with run_lock(tmp_path):
        (tmp_path / "lock").write_text(content)
        with pytest.raises(LockHeld, match="process unknown"), run_lock(tmp_path):
            pass


def test_a_program_started_by_a_step_does_not_keep_it(tmp_path: Path) -> None:
    with run_lock(tmp_path):
        child = subprocess.Popen(["sleep", "999"])
    try:
        assert not is_held(tmp_path)
    finally:
        child.kill()
        child.wait()


def test_somebody_who_looks_does_not_stop_a_run(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from bnpipe.pipeline.engine.lock import is_held\n"
        "print('looking', flush=True)\n"
        "while True:\n"
        "    is_held(Path(sys.argv[1]))\n"
    )
    with run_lock(tmp_path):
        pass
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "looking\n"
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            with run_lock(tmp_path):
                pass
    finally:
        child.kill()
        child.communicate()


def test_others_get_through_a_new_home_to_what_is_served_in_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with run_lock(tmp_path / "project/.bnpipe"):
            Store(tmp_path / "project/.bnpipe").prepare()
    finally:
        os.umask(before)
    assert (tmp_path / "project/.bnpipe").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "project/.bnpipe/runs").stat().st_mode & 0o777 == 0o700  # as the user said
