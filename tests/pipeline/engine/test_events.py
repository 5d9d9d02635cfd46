"""What a run tells while it goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.engine.events import GateDecided, JsonLines, Progress, RunStarted, StepErrored
from bnpipe.pipeline.engine.execute import run_graph
from tests.pipeline.toy_home import ToyHome
from tests.toy_graph import toy_settings


def told(toy: ToyHome, **graph: Any) -> list[Any]:
    found: list[Any] = []
    run_graph(toy.graph(**graph), toy.home, toy_settings(), [found.append])  # type: ignore[arg-type]
    return found


def names(events: list[Any]) -> list[str]:
    return [type(e).__name__ for e in events]


def test_a_run_tells_its_steps_in_order(tmp_path: Path) -> None:
    events = told(ToyHome(tmp_path))
    step = ["StepStarted", "StepFinished"]
    expected = ["RunStarted", *step * 3, *step, "GateDecided", *step, "RunFinished"]
    assert names(events) == expected
    assert [e.at for e in events] == sorted(e.at for e in events)


def test_cached_steps_are_finished_without_a_start(tmp_path: Path) -> None:
    toy = ToyHome(tmp_path)
    toy.run()
    assert "StepStarted" not in names(told(toy))


def test_a_refusal_and_a_failure_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = told(ToyHome(tmp_path / "a"), passes=False)
    (decision,) = [e for e in refused if isinstance(e, GateDecided)]
    assert (decision.step, decision.passed, decision.sentence) == (
        "judge",
        False,
        "not good enough",
    )
    monkeypatch.setenv("TOY_FAIL", "train")
    failed = told(ToyHome(tmp_path / "b"))
    (error,) = [e for e in failed if isinstance(e, StepErrored)]
    assert error.step == "train" and "the toy broke" in error.error
    assert "DataError: the toy broke" in Path(error.log).read_text()


def test_the_file_has_one_json_object_per_event(tmp_path: Path) -> None:
    toy = ToyHome(tmp_path)
    folder = toy.run().folder.path
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert lines[0]["event"] == "RunStarted"
    assert [s["name"] for s in lines[0]["steps"]] == ["source", "train", "twin", "judge", "pusher"]
    finished = [line for line in lines if line["event"] == "StepFinished"]
    assert finished[0]["plan"]["name"] == "source" and finished[0]["outputs"]["numbers"]
    assert all(line["at"] > 1e9 for line in lines)


def test_progress_is_for_the_screen_only(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "events.jsonl")
    sink(Progress("train", 1, 10, ""))
    assert not (tmp_path / "events.jsonl").exists()
    sink(RunStarted("0001", "toy", ()))
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) == 1


def test_a_file_that_cannot_be_written_does_not_stop_a_run(tmp_path: Path) -> None:
    sink = JsonLines(tmp_path / "nowhere" / "events.jsonl")
    for _ in range(2):
        sink(RunStarted("0001", "toy", ()))
