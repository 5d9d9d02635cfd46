"""Steps beside one another in worker processes: order, death, signals, what is made ready."""

import itertools
import json
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bnpipe.pipeline.engine.errors import ExitCode
from bnpipe.pipeline.engine.events import (
    MadeReady,
    RunStarted,
    StepFinished,
    StepRetried,
    StepStarted,
)
from bnpipe.pipeline.engine.execute import FinishedRun
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.engine.workers import Workers, _Worker
from tests.child import WITH_TESTS, environment
from tests.pipeline.engine.side_by_side import SIDE, WASTE, run_side_by_side
from tests.waiting import is_gone, wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "told"
    made.mkdir()
    return made


def outputs(result: FinishedRun) -> dict[str, Any]:
    return {step["name"]: step["outputs"] for step in result.summary["steps"]}


def actions(result: FinishedRun) -> dict[str, str]:
    return {step["name"]: step["action"] for step in result.summary["steps"]}


def pids(folder: Path, *steps: str) -> list[int]:
    return [int((folder / "pids" / step).read_text()) for step in steps]


def test_every_order_of_completion_gives_the_same_digests(tmp_path: Path) -> None:
    ends = {}
    for order in itertools.permutations(SIDE):
        name = "".join(order)
        folder = tmp_path / name
        folder.mkdir()
        for step, before in zip(order[1:], order, strict=False):
            (folder / f"wait-{step}").write_text(before)
        result = run_side_by_side(tmp_path / f"home-{name}", folder, jobs=3)
        assert result.exit_code is ExitCode.OK
        ran = {step["name"]: step for step in result.summary["steps"]}
        assert list(ran) == ["first", *SIDE, "last"]  # told in the graph's order
        finished = {name: ran[name]["started"] + ran[name]["seconds"] for name in SIDE}
        assert sorted(SIDE, key=finished.__getitem__) == list(order)
        ends[name] = outputs(result)
    alone = tmp_path / "alone"
    alone.mkdir()
    expected = outputs(run_side_by_side(tmp_path / "home", alone, jobs=1))
    assert all(end == expected for end in ends.values())


def test_a_worker_that_is_killed_is_a_fault_of_its_step_alone(tmp_path: Path, folder: Path) -> None:
    for name in ("wait-a", "wait-c"):
        (folder / name).write_text("b")  # both are at work while the worker of b dies
    (folder / "kill-b").touch()
    events: list[Any] = []
    home = tmp_path / "home"
    result = run_side_by_side(home, folder, 3, events.append)
    assert result.exit_code is ExitCode.OK
    (retried,) = [e for e in events if isinstance(e, StepRetried)]
    assert retried.step == "b"
    assert retried.error == "the process that ran it ended (SIGKILL, as when memory runs out)"
    assert outputs(result) == outputs(run_side_by_side(tmp_path / "other", folder, jobs=1))


@pytest.mark.parametrize("jobs", [1, 2])
def test_after_a_failure_what_is_at_work_is_finished_and_nothing_else_begun(
    tmp_path: Path, folder: Path, jobs: int
) -> None:
    (folder / "raise-a").touch()
    (folder / "wait-b").write_text("a")
    result = run_side_by_side(tmp_path / "home", folder, jobs)
    assert result.exit_code is ExitCode.FAILED
    at_work = {"b": "run"} if jobs == 2 else {"b": "skipped"}
    rest = {"c": "skipped", "last": "skipped"}
    assert actions(result) == {"first": "run", "a": "failed", **at_work, **rest}
    # Where it ran makes no difference to what is told.
    assert result.summary["error"].startswith("a failed: OddError: odd at a; see `bnpipe logs")
    assert 'raise OddError("odd", ctx.step)' in (result.folder.log("a")).read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_facts_that_are_none_are_a_failure(tmp_path: Path, folder: Path, jobs: int) -> None:
    (folder / "none-a").touch()
    result = run_side_by_side(tmp_path / "home", folder, jobs)
    assert result.summary["error"].startswith("a failed: TypeError: side gave None, expected")


@pytest.mark.parametrize("jobs", [1, 3])
def test_steps_that_do_the_same_work_do_it_once(tmp_path: Path, folder: Path, jobs: int) -> None:
    result = run_side_by_side(tmp_path / "home", folder, jobs, twins=True)
    assert actions(result)["b"] == "run" and actions(result)["c"] == "cached"
    assert outputs(result)["b"] == outputs(result)["c"]
    assert (tmp_path / "home" / "drawn").exists()


def test_a_child_that_a_dead_worker_left_holds_nothing_up(tmp_path: Path, folder: Path) -> None:
    (folder / "fork-b").touch()
    result = run_side_by_side(tmp_path / "home", folder, jobs=2)
    assert result.exit_code is ExitCode.OK
    wait_for(lambda: is_gone(*pids(folder, "child")))


def test_what_cannot_be_sent_to_a_process_fails_its_step(tmp_path: Path, folder: Path) -> None:
    result = run_side_by_side(tmp_path / "home", folder, jobs=2, beam=lambda: None)
    assert result.exit_code is ExitCode.FAILED
    assert result.summary["error"].startswith("first failed: ")
    assert "pickle" in result.summary["error"]


def test_the_code_of_all_steps_is_read_before_any_process_imports_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit while a run is under way must not be taken for what its processes have loaded."""
    read: list[str] = []
    of = CodeDigests.of

    def recorded(self: CodeDigests, component: Any) -> dict[str, str]:
        read.append(component.name)
        return of(self, component)

    monkeypatch.setattr(CodeDigests, "of", recorded)
    at_first_start: list[set[str]] = []

    def hear(event: Any) -> None:
        if isinstance(event, RunStarted):
            read.clear()
        if isinstance(event, StepStarted):
            at_first_start.append(set(read))

    run_side_by_side(tmp_path / "home", folder, 2, hear)
    assert at_first_start[0] == {"first", "side", "last"}


def test_a_process_that_a_step_ends_is_told_with_its_exit_code(
    tmp_path: Path, folder: Path
) -> None:
    (folder / "exit-b").touch()
    result = run_side_by_side(tmp_path / "home", folder, jobs=2, attempts=2, keep_going=True)
    assert actions(result) == {"first": "run", "a": "run", "b": "failed", "c": "run"} | {
        "last": "skipped"
    }
    assert result.summary["error"] == "b failed: the process that ran it ended (exit code 3)"


def test_a_cached_run_and_a_single_step_start_no_process(tmp_path: Path, folder: Path) -> None:
    home = tmp_path / "home"
    first = run_side_by_side(home, folder, jobs=2)
    assert (first.folder.path / "workers.log").exists()
    again = run_side_by_side(home, folder, jobs=2)
    assert set(actions(again).values()) == {"cached"}
    one = run_side_by_side(home, folder, jobs=2, selection=Selection(force=("last",)))
    assert actions(one)["last"] == "run"
    for run in (again, one):
        assert not (run.folder.path / "workers.log").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_an_idle_worker_makes_ready_and_gets_the_step(
    tmp_path: Path, folder: Path, fails: bool
) -> None:
    if fails:
        (folder / "raise-ahead").touch()
    (folder / "wait-first").write_text("making-ready")
    ready: list[MadeReady] = []

    def hear(event: Any) -> None:
        if isinstance(event, MadeReady):
            ready.append(event)
            (folder / "done-making-ready").touch()

    result = run_side_by_side(tmp_path / "home", folder, 2, hear)
    assert result.exit_code is ExitCode.OK
    (made,) = ready
    (last,) = pids(folder, "last")
    assert made.step == "last"
    assert [p.name for p in (folder / "pids").glob("ahead-*")] == [f"ahead-{last}"]
    assert [r["step"] for r in result.summary["made_ready"]] == ["last"]
    assert fails == ("OddError" in (result.folder.path / "workers.log").read_text())


@pytest.mark.parametrize(
    ("first", "second", "ready", "chosen", "given"),
    [
        ({}, {}, "b", "b", 2),  # who is ready and idle gets its step first
        ({}, {"ahead": "b"}, "x", "b", 2),  # who makes ready for the step itself is waited for
        ({}, {"ahead": "x"}, "b", "a", 1),  # of who makes ready for another nobody knows how long
        ({}, {"job": "x"}, "b", "a", 1),  # who is at work gets its step later, if there is another
        ({"job": "x"}, {"ahead": "x"}, "b", "b", 2),
        ({"ahead": "x"}, {"ahead": "x"}, "b", "b", 2),
        ({"job": "x"}, {"ahead": "x"}, "x", None, 2),  # sooner done than a new process
    ],
)
def test_a_step_goes_where_it_was_made_ready(
    first: dict[str, str],
    second: dict[str, str],
    ready: str,
    chosen: str | None,
    given: int,
    tmp_path: Path,
) -> None:
    processes = Workers(2, tmp_path / "log", lambda event: None)
    at_hand: Any = SimpleNamespace(poll=lambda: None)
    sent: Any = SimpleNamespace(send_bytes=lambda call: None)
    for number, (doing, ready_for) in enumerate(((first, set()), (second, {ready})), 1):
        worker = _Worker(number, at_hand, sent, None, **doing, ready_for=ready_for)
        processes._workers.append(worker)
    for steps in (["a", "b"], ["b", "a"]):
        assert processes.choose(steps) == (chosen or steps[0])
    assert processes._give("b", "step").number == given


def test_a_worker_gives_back_what_its_step_left_in_memory(tmp_path: Path, folder: Path) -> None:
    (folder / "waste-a").touch()
    (folder / "wait-b").write_text("looking")

    def resident(pid: int) -> int:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def hear(event: Any) -> None:
        if isinstance(event, StepFinished) and event.plan.name == "a":
            wait_for(lambda: resident(*pids(folder, "a")) < WASTE)
            (folder / "done-looking").touch()

    assert run_side_by_side(tmp_path / "home", folder, 2, hear).exit_code is ExitCode.OK


@pytest.fixture
def waiting(tmp_path: Path, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A run with two steps at work that wait for what never comes."""
    for step in SIDE:
        (folder / f"wait-{step}").write_text("doomsday")
    code = "from tests.pipeline.engine.side_by_side import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "home", folder, "2"],
        env=environment(**WITH_TESTS),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: all((folder / "pids" / step).exists() for step in ("a", "b")))
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED, "interrupted"),
        (signal.SIGTERM, ExitCode.TERMINATED, "terminated"),
    ],
)
def test_a_signal_ends_all_workers_and_leaves_nothing(
    waiting: subprocess.Popen[bytes],
    tmp_path: Path,
    folder: Path,
    number: signal.Signals,
    code: ExitCode,
    status: str,
) -> None:
    waiting.send_signal(number)
    assert waiting.wait() == code
    assert all(is_gone(pid) for pid in pids(folder, "a", "b"))
    home = tmp_path / "home"
    assert not list((home / "tmp").iterdir())
    assert not (home / "drawn").exists()
    assert f'"status": "{status}"' in (home / "runs" / "0001" / "run.json").read_text()
    assert Store(home).has_objects  # of the step that had ended


def test_workers_end_with_a_run_that_is_killed(
    waiting: subprocess.Popen[bytes], tmp_path: Path, folder: Path
) -> None:
    waiting.kill()
    waiting.wait()
    wait_for(lambda: all(is_gone(pid) for pid in pids(folder, "a", "b")))
    for step in SIDE:
        (folder / f"wait-{step}").unlink()
    again = run_side_by_side(tmp_path / "home", folder, jobs=2)
    assert actions(again) == {"first": "cached", **dict.fromkeys((*SIDE, "last"), "run")}
    assert not list((tmp_path / "home" / "tmp").iterdir())


def test_verify_runs_every_step_again(tmp_path: Path, folder: Path) -> None:
    result = run_side_by_side(tmp_path / "home", folder, jobs=2, verify=True)
    assert result.exit_code is ExitCode.OK
    events = [
        json.loads(line) for line in (result.folder.path / "events.jsonl").read_text().splitlines()
    ]
    started = [e["plan"]["name"] for e in events if e["event"] == "StepStarted"]
    assert sorted(started) == sorted(2 * ["first", *SIDE, "last"])
