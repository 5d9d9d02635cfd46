"""The locks of a home: shared by runs, held alone by gc, one for each run and each step at work."""

import json
import math
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data import flock
from bnpipe.data.flock import locked
from bnpipe.pipeline.engine import lock as module
from bnpipe.pipeline.engine import runs
from bnpipe.pipeline.engine.errors import ExitCode, LockHeld
from bnpipe.pipeline.engine.lock import CLEARING, alone_in, at_work, is_living, run_locks, try_lock
from bnpipe.pipeline.engine.runs import joined
from bnpipe.pipeline.engine.store import Store
from tests.child import environment

HOLD = """
import sys, time
from pathlib import Path
from typing import Any
from bnpipe.pipeline.engine.lock import alone_in, run_locks
home, run, *key = Path(sys.argv[1]), *sys.argv[2:]
with run_locks(home) if run != "gc" else alone_in(home) as locks:
    if locks is not None:
        locks.begin(run)
        for each in key:
            locks.take("step", each)
    print("held", flush=True)
    time.sleep(999)
"""


class Clock:
    """Stands in for `time` where locks are waited for; somebody gives a lock back at a time."""

    def __init__(self, at: float = math.inf, happens: Callable[[], None] = lambda: None) -> None:
        self.now, self._at, self._happens = 0.0, at, happens

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now >= self._at:
            self._happens()


@contextmanager
def holder(home: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a home: as `gc`, or as a run with steps of some keys at work."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), *words],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_runs_are_in_a_home_beside_one_another_and_seen_by_all(tmp_path: Path) -> None:
    with holder(tmp_path, "0001") as one, holder(tmp_path, "0002") as two:
        assert at_work(tmp_path) == [
            f"process {child.pid} on {platform.node()} (run {run})"
            for child, run in ((one, "0001"), (two, "0002"))
        ]
        assert [is_living(tmp_path, run) for run in ("0001", "0002", "0003")] == [True, True, False]


def test_who_must_be_alone_is_told_of_every_run(tmp_path: Path) -> None:
    with holder(tmp_path, "0001") as one, holder(tmp_path, "0002") as two:
        with pytest.raises(LockHeld) as caught, alone_in(tmp_path):
            pass
        for child in (one, two):
            assert f"process {child.pid} on {platform.node()} (run 000" in str(caught.value)
        assert caught.value.exit_code is ExitCode.LOCKED
        assert "BNPIPE_HOME" in caught.value.hint


def test_a_run_that_has_no_number_yet_keeps_others_from_being_alone(tmp_path: Path) -> None:
    with run_locks(tmp_path), pytest.raises(LockHeld, match="it just began"), alone_in(tmp_path):
        pass


def test_a_run_is_refused_while_somebody_is_alone(tmp_path: Path) -> None:
    with holder(tmp_path, "gc") as child:
        who = f"gc is at work in {tmp_path}: process {child.pid} on {platform.node()}"
        with pytest.raises(LockHeld, match=re.escape(who)) as caught, run_locks(tmp_path):
            pass
        assert caught.value.exit_code is ExitCode.LOCKED
        assert at_work(tmp_path) == [f"process {child.pid} on {platform.node()}"]


def test_a_step_is_refused_while_another_process_is_at_it(tmp_path: Path) -> None:
    with holder(tmp_path, "0001", "key") as child, run_locks(tmp_path) as locks:
        locks.begin("0002")
        locks.take("other", "another key")
        who = f"step train is at work in process {child.pid} on {platform.node()} (run 0001)"
        with pytest.raises(LockHeld, match=re.escape(who)) as caught:
            locks.take("train", "key")
        assert caught.value.exit_code is ExitCode.LOCKED and "bnpipe run" in caught.value.hint
        child.send_signal(signal.SIGKILL)
        child.wait()
        locks.take("train", "key")


def test_a_process_of_another_machine_is_named_as_its_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_locks(tmp_path) as here, run_locks(tmp_path) as there:
        with monkeypatch.context() as patch:
            patch.setattr(platform, "node", lambda: "trainer-2")
            there.begin("0007")
            there.take("train", "key")
        here.begin("0008")
        with pytest.raises(LockHeld, match=rf"{os.getpid()} on trainer-2 \(run 0007\)"):
            here.take("train", "key")
        assert here.drop("train") is None  # it is still theirs
        with pytest.raises(LockHeld):
            here.take("train", "key")
        there.drop("train")
        here.take("train", "key")


def test_a_killed_holder_leaves_nothing_held(tmp_path: Path) -> None:
    with holder(tmp_path, "0001", "key") as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not at_work(tmp_path) and not is_living(tmp_path, "0001")
        with alone_in(tmp_path):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_it_can_be_taken_again_and_its_file_stays(tmp_path: Path) -> None:
    inodes = set()
    for _ in range(2):
        with run_locks(tmp_path / "home") as locks:
            locks.begin("0001")
            locks.take("train", "key")
            files = [tmp_path / "home" / n for n in ("lock", "locks/runs/0001", "locks/steps/key")]
            inodes.add(tuple(file.stat().st_ino for file in files))
    assert len(inodes) == 1


@pytest.mark.parametrize("hold", [alone_in, run_locks])
def test_an_error_inside_gives_it_back(tmp_path: Path, hold: Any) -> None:
    with pytest.raises(RuntimeError), hold(tmp_path) as locks:
        if locks is not None:
            locks.begin("0001")
            locks.take("train", "key")
        raise RuntimeError
    with alone_in(tmp_path), holder(tmp_path / "other", "0001", "key"):
        assert at_work(tmp_path) == [f"process {os.getpid()} on {platform.node()}"]
    with run_locks(tmp_path) as locks:
        locks.begin("0001")
        locks.take("train", "key")


def test_two_homes_do_not_disturb_each_other(tmp_path: Path) -> None:
    with alone_in(tmp_path / "a"), alone_in(tmp_path / "b"):
        assert at_work(tmp_path / "a") and at_work(tmp_path / "b")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    assert not at_work(tmp_path / "none") and not is_living(tmp_path / "none", "0001")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_an_unreadable_lock_file_still_locks(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    with alone_in(tmp_path):
        (tmp_path / "lock").write_text(content)
        with pytest.raises(LockHeld, match="process unknown"), run_locks(tmp_path):
            pass


def test_a_program_started_by_a_step_does_not_keep_it(tmp_path: Path) -> None:
    with run_locks(tmp_path) as locks:
        locks.begin("0001")
        locks.take("train", "key")
        child = subprocess.Popen(["sleep", "999"])
    try:
        assert not at_work(tmp_path)
        with alone_in(tmp_path), run_locks(tmp_path / "b"):
            pass
    finally:
        child.kill()
        child.wait()


def test_a_run_whose_own_lock_cannot_be_had_does_not_go_on_unseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "locks" / "runs" / "0001"
    with run_locks(tmp_path) as locks, try_lock(path, run="0001"):
        monkeypatch.setattr(flock, "time", Clock())
        with pytest.raises(LockHeld, match=re.escape(f"{path} is locked by process")):
            locks.begin("0001")


def test_a_run_waits_a_minute_for_one_that_clears_up_and_not_for_gc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who, seconds, waits in ((CLEARING, 50, True), (CLEARING, 70, False), ("gc", 10, False)):
        with ExitStack() as other:
            other.enter_context(try_lock(tmp_path / "lock", who=who))
            monkeypatch.setattr(flock, "time", Clock(seconds, other.close))
            refused = pytest.raises(LockHeld, match=re.escape(f"{who} is at work in {tmp_path}: "))
            with nullcontext() if waits else refused, run_locks(tmp_path):
                pass


def test_who_clears_up_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def clear(store: Store) -> None:
        for other in (run_locks, alone_in):
            with pytest.raises(LockHeld) as caught, other(tmp_path):
                pass
            told.append(caught.value.headline)

    monkeypatch.setattr(flock, "time", Clock())
    monkeypatch.setattr(runs, "put_in_order", clear)
    with joined(Store(tmp_path)):
        pass
    process = f"process {os.getpid()} on {platform.node()}"
    assert told == [f"a run that clears up is at work in {tmp_path}: {process}"] * 2


@pytest.mark.parametrize(
    ("path", "seconds"), [("lock", 0.1), ("locks/runs/0001", 1.5), ("locks/steps/key", 0.1)]
)
def test_somebody_who_looks_does_not_stop_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, seconds: float
) -> None:
    with run_locks(tmp_path) as locks:
        locks.begin("0001")
        locks.take("train", "key")
    with ExitStack() as looker:
        looker.enter_context(locked(tmp_path / path, shared=True))  # as `is_locked`, off its core
        clock = Clock(seconds, looker.close)
        monkeypatch.setattr(flock, "time", clock)
        if path == "lock":
            with joined(Store(tmp_path)):
                assert clock.now == 0.0
            with alone_in(tmp_path):
                pass
        else:
            with run_locks(tmp_path) as locks:
                locks.begin("0001")
                locks.take("train", "key")
                assert is_living(tmp_path, "0001")
    assert clock.now >= seconds


def test_others_get_through_a_new_home_to_what_is_served_in_it(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with joined(Store(tmp_path / "project/.bnpipe")):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "project/.bnpipe").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "project/.bnpipe/runs").stat().st_mode & 0o777 == 0o700  # as the user said
