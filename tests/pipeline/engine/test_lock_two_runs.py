"""Two runs in one home at the same time, each in a process of its own."""

import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.engine.errors import ExitCode, LockHeld
from bnpipe.pipeline.engine.events import StepErrored, StepFinished
from bnpipe.pipeline.engine.execute import FinishedRun
from bnpipe.pipeline.engine.lock import RunLocks, run_locks
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.runs import find_run, summaries
from bnpipe.pipeline.engine.store import Store
from tests.child import WITH_TESTS, environment
from tests.pipeline.engine.run_crash_points import broken_end, broken_store
from tests.pipeline.engine.side_by_side import run_side_by_side
from tests.pipeline.toy_home import ToyHome, actions, outputs
from tests.waiting import PATIENCE, wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "told"
    made.mkdir()
    return made


@pytest.fixture
def home(tmp_path: Path, folder: Path) -> Path:
    """A home where only the first step is done."""
    run_side_by_side(tmp_path / "home", folder, 1, selection=Selection(to="first"))
    return tmp_path / "home"


@contextmanager
def at_work(
    home: Path, folder: Path, *only: str, within: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """A run in a process of its own."""
    code = "from tests.pipeline.engine.side_by_side import main; main()"
    child = subprocess.Popen(
        [*within, sys.executable, "-c", code, str(home), str(folder), "1", *only],
        env=environment(**WITH_TESTS),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def clean(tmp_path: Path) -> dict[str, Any]:
    """The digests of one run alone in a home of its own."""
    told = tmp_path / "clean"
    told.mkdir()
    return outputs(run_side_by_side(tmp_path / "clean-home", told, 1))


def waits(folder: Path, step: str) -> Path:
    """Let a step wait until the file is there."""
    (folder / f"wait-{step}").write_text("released")
    return folder / "done-released"


@pytest.mark.parametrize("first", ["a", "b"])
def test_different_steps_run_at_the_same_time(
    home: Path, folder: Path, tmp_path: Path, first: str
) -> None:
    (folder / "meet-a").write_text("b")
    (folder / "meet-b").write_text("a")  # neither ends before the other has begun
    (folder / f"wait-{'b' if first == 'a' else 'a'}").write_text(first)
    with at_work(home, folder, "a") as one, at_work(home, folder, "b") as two:
        assert one.wait(PATIENCE) == two.wait(PATIENCE) == 0
    assert len({(folder / "pids" / step).read_text() for step in "ab"}) == 2
    assert [r["status"] for r in summaries(Store(home))] == ["succeeded"] * 3
    last = run_side_by_side(home, folder, 1)
    ran = ("cached", "cached", "cached", "run", "run")
    assert actions(last) == dict(zip(("first", "a", "b", "c", "last"), ran, strict=True))
    assert outputs(last) == clean(tmp_path)


def held(result: FinishedRun, pid: int) -> bool:
    """Whether a run ended because step a is at work in another process."""
    who = f"step a is at work in process {pid} on {platform.node()} (run 0002)"
    assert isinstance(result.error, LockHeld) and result.error.headline == who
    assert "bnpipe run" in result.error.hint
    return result.exit_code is ExitCode.LOCKED == result.summary["exit_code"]


def test_the_same_step_is_refused_and_the_others_as_behind_a_failed_one(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    release = waits(folder, "a")
    with at_work(home, folder, "a") as child:
        wait_for((folder / "pids" / "a").exists)
        stopped = run_side_by_side(home, folder, 1)
        assert held(stopped, child.pid)
        skipped = dict.fromkeys(("b", "c", "last"), "skipped")
        assert actions(stopped) == {"first": "cached", "a": "failed", **skipped}
        gone_on = run_side_by_side(home, folder, 2, keep_going=True)
        assert held(gone_on, child.pid)
        rest = {"b": "run", "c": "run", "last": "skipped"}
        assert actions(gone_on) == {"first": "cached", "a": "failed", **rest}
        last = gone_on.summary["steps"][-1]
        assert [r["sentence"] for r in last["reasons"]] == ["a is at work elsewhere"]
        release.touch()
        assert child.wait(PATIENCE) == 0
        assert int((folder / "pids" / "a").read_text()) == child.pid  # nobody else was at it
    result = run_side_by_side(home, folder, 1)
    assert actions(result)["a"] == "cached" and outputs(result) == clean(tmp_path)


def test_another_machine_is_seen_by_its_locks_and_named(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    """Namespaces stand in for it: a host name, process numbers and a mount of its own."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    namespaces = ("unshare", "--map-root-user", "--uts", "--mount", "--pid", "--fork")
    machine = (*namespaces, "--kill-child", "sh", "-c")
    setup = f'hostname trainer-2 && mount --bind {home} {mounted} && exec "$@"'
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: it makes the namespaces of the other machine")
    if subprocess.run([*machine, setup, "sh", "true"], capture_output=True).returncode:
        pytest.skip("no namespaces may be made here: they are the other machine")
    release = waits(folder, "a")
    with at_work(mounted, folder, "a", within=(*machine, setup, "sh")) as there:
        wait_for((folder / "pids" / "a").exists)
        assert find_run(Store(home), "2").summary()["status"] == "running"
        refused = run_side_by_side(home, folder, 1, selection=Selection(only="a"))
        assert "step a is at work in process 1 on trainer-2 (run 0002)" in str(refused.error)
        beside = run_side_by_side(home, folder, 1, selection=Selection(only="b"))
        assert actions(beside)["b"] == "run"
        release.touch()
        assert there.wait(PATIENCE) == 0
    whole = run_side_by_side(home, folder, 1)
    assert actions(whole)["a"] == actions(whole)["b"] == "cached"
    assert outputs(whole) == clean(tmp_path)


@pytest.mark.parametrize("fails", [False, True])
def test_a_step_that_has_ended_is_anybody_s_while_its_run_goes_on(
    home: Path, folder: Path, fails: bool
) -> None:
    trouble = folder / "raise-a"
    if fails:
        trouble.touch()
    others: list[FinishedRun] = []

    def hear(event: Any) -> None:
        ended = isinstance(event, StepErrored if fails else StepFinished)
        if ended and not others and (event.step if fails else event.plan.name) == "a":
            trouble.unlink(missing_ok=True)
            selection = Selection(only="a", force=("a",))
            others.append(run_side_by_side(home, folder, 1, selection=selection))

    run_side_by_side(home, folder, 1, hear, keep_going=True)
    assert [other.exit_code for other in others] == [ExitCode.OK]


def test_what_is_cached_needs_no_lock_of_a_step(home: Path, folder: Path) -> None:
    keys = [s["key"] for s in run_side_by_side(home, folder, 1).summary["steps"]]
    with run_locks(home) as locks:
        locks.begin("0009")
        for key in keys:
            locks.take(key, key)
        again = run_side_by_side(home, folder, 1)
    assert set(actions(again).values()) == {"cached"} and again.exit_code is ExitCode.OK


def test_what_another_run_has_just_committed_is_taken_from_it(
    home: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking = RunLocks.take
    others: list[FinishedRun] = []

    def after_another(locks: RunLocks, step: str, key: str) -> None:
        if not others:  # between this run's look into the cache and its lock
            monkeypatch.setattr(RunLocks, "take", taking)
            others.append(run_side_by_side(home, folder, 1, selection=Selection(only="a")))
        taking(locks, step, key)

    monkeypatch.setattr(RunLocks, "take", after_another)
    result = run_side_by_side(home, folder, 1)
    ran = ("cached", "cached", "run", "run", "run")
    assert actions(result) == dict(zip(("first", "a", "b", "c", "last"), ran, strict=True))
    assert actions(others[0])["a"] == "run"
    assert outputs(result) == clean(tmp_path)


def test_one_is_killed_in_the_middle_of_a_step_and_the_other_goes_on(tmp_path: Path) -> None:
    toy = ToyHome(tmp_path / "toy")
    toy.run()
    child = toy.child(rate=2, TOY_SLEEP="train")
    half = toy.home / "tmp" / "0002-train" / "1" / "model" / "saved_model" / "saved_model.pb"
    wait_for(half.exists)
    beside = toy.run(rate=3)  # whole, to a pushed model
    assert beside.exit_code is ExitCode.OK and actions(beside)["pusher"] == "run"
    assert half.exists() and find_run(toy.store, "2").summary()["status"] == "running"
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert find_run(toy.store, "2").summary()["status"] == "killed"
    assert broken_store(toy.home) == [] and half.exists()
    again = toy.run(rate=2)
    assert actions(again)["train"] == "run"
    alone = ToyHome(tmp_path / "alone")
    one_by_one = [alone.run(rate=rate) for rate in (1, 3, 2)]
    assert outputs(beside) == outputs(one_by_one[1]) and outputs(again) == outputs(one_by_one[2])
    assert broken_store(toy.home) + broken_end(toy.home) == []


def test_the_killed_one_leaves_its_step_to_the_living_one(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    waits(folder, "a")
    (folder / "wait-b").write_text("the other")
    with at_work(home, folder, "a") as one, at_work(home, folder, "b") as two:
        wait_for(lambda: all((folder / "pids" / step).exists() for step in "ab"))
        staged = {p.name for p in (home / "tmp").iterdir()}
        one.kill()
        one.wait()
        (folder / "wait-a").unlink()
        taken_over = run_side_by_side(home, folder, 1, selection=Selection(only="a"))
        assert actions(taken_over)["a"] == "run"
        assert {p.name for p in (home / "tmp").iterdir()} == staged and two.poll() is None
        (folder / "done-the other").touch()
        assert two.wait(PATIENCE) == 0
    result = run_side_by_side(home, folder, 1)
    assert outputs(result) == clean(tmp_path)
    assert broken_store(home) + broken_end(home) == []


def test_a_home_that_another_machine_mounts_elsewhere_is_the_same_home(tmp_path: Path) -> None:
    expected = ToyHome(tmp_path / "undivided").run()
    toy = ToyHome(tmp_path / "here")
    half = toy.run(Selection(to="train"))
    there = ToyHome(tmp_path / "there" / "deeper")
    toy.home.rename(there.home)
    toy.file.unlink()
    with there.child() as child:
        assert child.wait(PATIENCE) == 0
    rest = find_run(there.store, "latest").summary()
    assert [s["action"] for s in rest["steps"]] == ["cached", "cached", "run", "run", "run"]
    keys = {s["name"]: s["key"] for s in rest["steps"]}
    assert keys == {s["name"]: s["key"] for s in expected.summary["steps"]}
    assert [s["key"] for s in half.summary["steps"]] == list(keys.values())[:2]
    assert {s["name"]: s["outputs"] for s in rest["steps"][:-1]} == outputs(expected)
    assert set(actions(there.run()).values()) == {"cached", "keep"}
