"""Runs of the toy pipeline: what runs, what is cached, what a verdict stops."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.engine import workers
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode, LockHeld, StoreError
from bnpipe.pipeline.engine.events import RunStarted, StepRetried, StepStarted
from bnpipe.pipeline.engine.execute import FinishedRun, run_graph
from bnpipe.pipeline.engine.lock import alone_in, run_locks
from bnpipe.pipeline.engine.plan import Action, Selection, make_plan
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.step import Task, execute
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.folder import labels, versions
from tests import toy_graph
from tests.child import WITH_TESTS, environment
from tests.toy_graph import toy_settings
from tests.waiting import wait_for


class Toy:
    """A home, an input file and a served folder."""

    def __init__(self, folder: Path) -> None:
        self.home, self.file, self.served = folder / "home", folder / "in.txt", folder / "served"
        self.file.write_text("seven\n")

    def run(self, settings: dict[str, Any] | None = None, **graph: Any) -> FinishedRun:
        made = toy_graph.toy_graph(self.file, self.served, **graph)
        return run_graph(made, self.home, toy_settings(**(settings or {})))

    def plan(self, selection: Selection | None = None, **graph: Any) -> dict[str, Any]:
        made = toy_graph.toy_graph(self.file, self.served, **graph)
        return {s.name: s for s in make_plan(made, Store(self.home), selection).steps}

    def child(self, rate: int = 1, **environ: str) -> subprocess.Popen[bytes]:
        code = "from tests.toy_graph import main; main()"
        words = [sys.executable, "-c", code, self.home, self.file, self.served]
        return subprocess.Popen(
            [*map(str, words), str(rate)],
            env=environment(**WITH_TESTS, **environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def actions(result: FinishedRun) -> dict[str, str]:
    return {s["name"]: s["action"] for s in result.summary["steps"]}


def outputs(result: FinishedRun) -> dict[str, Any]:
    return {s["name"]: s["outputs"] for s in result.summary["steps"] if s["name"] != "pusher"}


ALL_RUN = dict.fromkeys(("source", "train", "twin", "judge", "pusher"), "run")


def test_first_run_runs_everything_and_publishes(toy: Toy) -> None:
    result = toy.run()
    assert result.exit_code is ExitCode.OK
    assert actions(result) == ALL_RUN
    assert versions.live(toy.served) == 1
    assert result.summary["verdict"]["sentence"] == "good enough"
    assert result.summary["pushed"]["version"] == 1


def test_second_run_is_answered_from_the_cache_and_the_served_folder(toy: Toy) -> None:
    first, second = toy.run(), toy.run()
    kept = dict.fromkeys(ALL_RUN, "cached") | {"pusher": "keep"}
    assert actions(second) == kept
    assert outputs(first) == outputs(second)
    assert second.summary["pushed"]["sentence"] == "up to date (v1 live)"
    assert versions.complete_versions(toy.served) == [1]


def test_plan_tells_the_changed_parameter_and_run_does_what_it_said(toy: Toy) -> None:
    toy.run()
    plan = toy.plan(rate=2)
    assert plan["source"].action is plan["twin"].action is Action.CACHED
    assert [r.sentence for r in plan["train"].reasons] == ["rate: 1 -> 2"]
    assert plan["judge"].reasons[0].sentence == "after train"
    result = toy.run(rate=2)
    assert actions(result) == ALL_RUN | {"source": "cached", "twin": "cached"}


def test_new_data_outside_is_a_reason_to_run(toy: Toy) -> None:
    toy.run()
    toy.file.write_text("eight\n")
    plan = toy.plan()
    assert plan["source"].reasons[0].code == "outside"
    assert plan["train"].reasons[0].sentence == "after source"
    assert actions(toy.run()) == ALL_RUN


def test_touching_the_input_without_changing_it_runs_nothing(toy: Toy) -> None:
    toy.run()
    os.utime(toy.file, (1, 1))
    assert toy.plan()["source"].action is Action.CACHED


def test_equal_output_of_a_forced_step_leaves_the_rest_cached(toy: Toy) -> None:
    toy.run()
    result = toy.run(settings={"selection": Selection(force=("source",))})
    assert actions(result) == dict.fromkeys(ALL_RUN, "cached") | {"source": "run", "pusher": "keep"}


def test_to_runs_what_the_step_needs_and_no_more(toy: Toy) -> None:
    result = toy.run(settings={"selection": Selection(to="train")})
    assert actions(result) == {"source": "run", "train": "run"}


def test_only_needs_its_inputs_in_the_cache(toy: Toy) -> None:
    only = {"selection": Selection(only="train")}
    result = toy.run(settings=only)
    assert isinstance(result.error, ConfigError)
    assert "source" in str(result.error) and "--to train" in str(result.error)
    toy.run(settings={"selection": Selection(to="source")})
    assert actions(toy.run(settings=only)) == {"source": "cached", "train": "run"}


def test_only_runs_nothing_else_when_the_world_changes_after_the_plan(
    toy: Toy, tmp_path: Path
) -> None:
    toy.run(settings={"selection": Selection(to="judge")})
    other = Toy(tmp_path)
    other.home = tmp_path / "other-home"

    def hear(event: Any) -> None:
        if isinstance(event, RunStarted):  # it is planned: judge is cached
            other.run(rate=2)

    graph = toy_graph.toy_graph(toy.file, toy.served)
    settings = toy_settings(selection=Selection(only="pusher"))
    result = run_graph(graph, toy.home, settings, [hear])  # type: ignore[arg-type]
    assert result.exit_code is ExitCode.USAGE
    assert "--only pusher" in str(result.error) and "cache: judge" in str(result.error)
    assert "judge" not in actions(result) and versions.complete_versions(toy.served) == [1]


def test_only_verifies_that_step_alone(toy: Toy) -> None:
    toy.run(settings={"selection": Selection(to="source")})
    events: list[Any] = []
    graph = toy_graph.toy_graph(toy.file, toy.served)
    settings = toy_settings(selection=Selection(only="twin"))
    result = run_graph(graph, toy.home, settings, [events.append], verify=True)  # type: ignore[arg-type]
    assert result.exit_code is ExitCode.OK
    assert [e.plan.name for e in events if isinstance(e, StepStarted)] == ["twin", "twin"]


def test_steps_one_by_one_come_to_what_one_run_comes_to(toy: Toy, tmp_path: Path) -> None:
    """The record of the last one too: the origin of a version is looked up in it."""
    for step in ALL_RUN:
        last = toy.run(settings={"selection": Selection(only=step)})
        assert last.exit_code is ExitCode.OK
        assert [name for name, action in actions(last).items() if action == "run"] == [step]
    (tmp_path / "other").mkdir()
    assert outputs(last) == outputs(Toy(tmp_path / "other").run())


def test_a_step_behind_a_verdict_is_stopped_also_alone(toy: Toy) -> None:
    toy.run(settings={"selection": Selection(to="judge")}, passes=False)
    alone = toy.run(settings={"selection": Selection(only="pusher")}, passes=False)
    assert (alone.exit_code, actions(alone)["pusher"]) == (ExitCode.VERDICT, "stopped")


def test_unknown_step_names_the_steps(toy: Toy) -> None:
    with pytest.raises(ConfigError, match="steps are: source, train"):
        toy.plan(Selection(to="trian"))


def test_a_refused_candidate_stops_what_comes_after_and_exits_3(toy: Toy) -> None:
    result = toy.run(passes=False)
    assert result.exit_code is ExitCode.VERDICT
    assert actions(result)["pusher"] == "stopped"
    reason = result.summary["steps"][-1]["reasons"][0]["sentence"]
    assert reason == "stopped by judge: not good enough"
    assert versions.live(toy.served) is None
    again = toy.run(passes=False)  # a cached verdict stops just the same
    assert again.exit_code is ExitCode.VERDICT
    assert actions(again)["judge"] == "cached"


def test_a_failing_step_is_one_line_and_the_next_run_goes_on(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "train")
    result = toy.run()
    assert result.exit_code is ExitCode.FAILED
    assert result.summary["error"] == "train failed: the toy broke; mend the toy"
    rest = dict.fromkeys(("twin", "judge", "pusher"), "skipped")
    assert actions(result) == {"source": "run", "train": "failed", **rest}
    monkeypatch.delenv("TOY_FAIL")
    assert actions(toy.run()) == ALL_RUN | {"source": "cached"}


def test_keep_going_runs_what_does_not_need_the_failed_step(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "train")
    result = toy.run(settings={"keep_going": True})
    assert actions(result) == ALL_RUN | {
        "train": "failed",
        "judge": "skipped",
        "pusher": "skipped",
    }
    assert result.exit_code is ExitCode.FAILED


def test_a_step_that_is_at_work_elsewhere_does_not_hide_one_that_failed(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.run(settings={"selection": Selection(to="source")})
    monkeypatch.setenv("TOY_FAIL", "twin")
    with run_locks(toy.home) as locks:
        locks.begin("0009")
        locks.take("train", str(toy.plan()["train"].key))
        result = toy.run(settings={"keep_going": True})
    assert actions(result)["train"] == actions(result)["twin"] == "failed"
    assert result.exit_code is ExitCode.FAILED == result.summary["exit_code"]
    assert result.summary["error"] == "twin failed: the toy broke; mend the toy"


def test_faults_are_tried_again_and_verdicts_are_not(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def flaky(step: str) -> None:
        calls.append(step)
        if step == "train" and calls.count("train") < 3:
            raise ConnectionResetError("gone")

    monkeypatch.setattr(toy_graph, "_misbehave", flaky)
    events: list[Any] = []
    graph = toy_graph.toy_graph(toy.file, toy.served)
    settings = toy_settings(attempts=3, backoff_seconds=0.001)
    assert run_graph(graph, toy.home, settings, [events.append]).exit_code is ExitCode.OK
    assert len([e for e in events if isinstance(e, StepRetried)]) == 2


def test_what_a_cluster_goes_on_with_does_not_get_into_the_next_attempt(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    staged: list[Path] = []

    def lost(task: Task, progress: Any) -> Any:
        if task.step != "train":
            return execute(task, progress)
        folder = task.staged["model"].path
        staged.append(folder)
        if len(staged) == 1:
            raise ConnectionResetError("gone")
        for first in staged[:-1]:  # the job of the first attempt goes on
            first.mkdir(parents=True, exist_ok=True)
            (first / "late.txt").write_text("late")
        return execute(task, progress)

    monkeypatch.setattr(workers, "execute", lost)
    settings = toy_settings(attempts=2, backoff_seconds=0.001)
    graph = toy_graph.toy_graph(toy.file, toy.served)
    result = run_graph(graph, toy.home, settings, verify=True)  # type: ignore[arg-type]
    assert result.exit_code is ExitCode.OK
    assert len(set(staged)) == len(staged) == 3
    (model,) = (s["outputs"]["model"] for s in result.summary["steps"] if s["name"] == "train")
    assert not (Store(toy.home).object_path(model) / "late.txt").exists()
    assert list((toy.home / "tmp").iterdir()) == []


def test_a_run_beside_gc_is_refused(toy: Toy) -> None:
    with alone_in(toy.home), pytest.raises(LockHeld, match=f"process {os.getpid()}"):
        toy.run()
    assert toy.run().exit_code is ExitCode.OK


def test_sigterm_ends_a_run_properly(toy: Toy) -> None:
    child = toy.child(TOY_SLEEP="train")
    log = toy.home / "runs" / "0001" / "logs" / "train.log"
    wait_for(log.exists)
    child.send_signal(signal.SIGTERM)
    assert child.wait() == ExitCode.TERMINATED
    assert find_run(Store(toy.home), "1").summary()["status"] == "terminated"
    assert actions(toy.run())["source"] == "cached"


@pytest.mark.parametrize("step", ["source", "train", "twin", "judge"])
def test_killed_in_a_step_the_next_run_goes_on_to_the_same_digests(toy: Toy, step: str) -> None:
    assert toy.child(TOY_KILL=step).wait() == -signal.SIGKILL
    result = toy.run()
    done = list(ALL_RUN)[: list(ALL_RUN).index(step)]
    assert actions(result) == ALL_RUN | dict.fromkeys(done, "cached")
    assert find_run(Store(toy.home), "1").summary()["status"] == "killed"
    fresh = toy.home.parent / "fresh"
    fresh.mkdir()
    assert outputs(result) == outputs(Toy(fresh).run())


def damaged_object(toy: Toy, result: FinishedRun, step: str) -> Path:
    (digest,) = next(s["outputs"] for s in result.summary["steps"] if s["name"] == step).values()
    return Store(toy.home).object_path(digest)


def test_an_object_of_another_size_stops_the_run_with_exit_6(toy: Toy) -> None:
    folder = damaged_object(toy, toy.run(), "source")
    (folder / "a.txt").chmod(0o644)
    (folder / "a.txt").write_text("short")
    with pytest.raises(StoreError, match=r"a\.txt has 5 bytes, expected 18") as caught:
        toy.run()
    assert caught.value.exit_code is ExitCode.STORE
    assert "gc --verify --yes" in str(caught.value)


def test_a_flipped_byte_is_found_before_anything_is_computed_from_it(toy: Toy) -> None:
    folder = damaged_object(toy, toy.run(), "source")
    (folder / "a.txt").chmod(0o644)
    (folder / "a.txt").write_text("Seven\n" * 3)
    result = toy.run(rate=2)
    assert result.exit_code is ExitCode.STORE
    assert "other bytes than were written" in str(result.error)
    assert versions.live(toy.served) == 1


def test_a_lost_object_is_made_again(toy: Toy) -> None:
    import shutil

    first = toy.run()
    shutil.rmtree(damaged_object(toy, first, "train"))
    assert toy.plan()["train"].reasons[0].code == "gone"
    second = toy.run()
    assert actions(second)["train"] == "run"
    assert outputs(first) == outputs(second)


def test_a_newer_store_is_refused(toy: Toy) -> None:
    toy.run()
    (toy.home / "format").write_text("2\n")
    with pytest.raises(StoreError, match="store format '2', this bnpipe knows up to 1"):
        toy.run()


def test_verify_compares_every_file(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = toy_graph.toy_graph(toy.file, toy.served)
    assert run_graph(graph, toy.home, toy_settings(), verify=True).exit_code is ExitCode.OK
    monkeypatch.setenv("TOY_NOISE", "1")
    other = toy_graph.toy_graph(toy.file, toy.served, rate=5)
    result = run_graph(other, toy.home, toy_settings(), verify=True)
    assert result.exit_code is ExitCode.FAILED
    assert "train.model: history.json differs" in str(result.error)


# The champion, rollbacks and the served folder


def test_a_changed_model_is_compared_with_the_live_one(toy: Toy) -> None:
    toy.run()
    result = toy.run(rate=2)
    facts = {s["name"]: s["facts"] for s in result.summary["steps"]}
    assert facts["judge"]["compared_with"] == 1
    assert versions.live(toy.served) == 2
    assert actions(toy.run(rate=2)) == dict.fromkeys(ALL_RUN, "cached") | {"pusher": "keep"}


def test_a_plain_run_never_undoes_a_rollback(toy: Toy) -> None:
    toy.run()
    toy.run(rate=2)
    labels.rollback(toy.served, reason="bad in the field")
    result = toy.run(rate=2)
    assert actions(result) == dict.fromkeys(ALL_RUN, "cached") | {"pusher": "keep"}
    held = "held back (v2 withdrawn: bad in the field)"
    assert result.summary["pushed"]["sentence"] == held
    assert versions.live(toy.served) == 1


def test_a_lost_served_folder_is_published_again(toy: Toy) -> None:
    import shutil

    toy.run()
    shutil.rmtree(toy.served)
    assert actions(toy.run())["pusher"] == "run"
    assert versions.live(toy.served) == 1


def test_the_served_folder_of_another_data_set_is_refused(toy: Toy) -> None:
    toy.run()
    result = toy.run(rate=3, dataset="other")
    assert result.exit_code is ExitCode.SERVING
    assert "other" in str(result.error) and "toy" in str(result.error)
    assert versions.live(toy.served) == 1


def test_a_model_name_that_leaves_the_folder_is_refused(toy: Toy) -> None:
    result = toy.run(model_name="../toy")
    assert result.exit_code is ExitCode.SERVING
    assert "serving.model_name" in str(result.error)


def test_two_homes_may_publish_to_one_folder(toy: Toy, tmp_path: Path) -> None:
    toy.run()
    other = Toy(tmp_path)
    other.home = tmp_path / "other-home"
    other.run(rate=2)
    assert versions.complete_versions(toy.served) == [1, 2]


def test_the_run_folder_tells_what_happened(toy: Toy) -> None:
    result = toy.run()
    folder = result.folder.path
    events = [
        json.loads(line)["event"] for line in (folder / "events.jsonl").read_text().splitlines()
    ]
    assert events[0] == "RunStarted" and events.count("StepFinished") == 5
    report = json.loads((folder / "report.json").read_text())
    assert report["blessing"]["passed"] is True
    assert (folder / "config.yaml").read_text() == "toy: true\n"
    assert {s["name"] for s in json.loads((folder / "plan.json").read_text())["steps"]} == set(
        ALL_RUN
    )


def test_keep_going_does_not_pass_a_gate_that_never_ran(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin is an input of the gate alone; the pusher does not read it, but must not go on."""
    monkeypatch.setenv("TOY_FAIL", "twin")
    result = toy.run(settings={"keep_going": True})
    assert actions(result)["judge"] == actions(result)["pusher"] == "skipped"
    assert versions.live(toy.served) is None


def test_a_step_that_calls_exit_is_a_failed_step(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_graph, "_misbehave", lambda step: sys.exit(0))
    result = toy.run()
    assert result.exit_code is ExitCode.FAILED
    assert "called exit(0)" in str(result.error)
    assert find_run(Store(toy.home), "1").summary()["status"] == "failed"


def test_a_bug_in_the_runner_still_closes_the_run(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("bnpipe.pipeline.engine.runner.Runner._check_only", broken)
    with pytest.raises(ZeroDivisionError):
        toy.run()
    assert find_run(Store(toy.home), "1").summary()["status"] == "failed"
