"""The plan: what would run, why, and that asking changes nothing."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Component
from bnpipe.pipeline.engine import fingerprint
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.execute import run_graph
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.graph import Graph, Resolved
from bnpipe.pipeline.engine.plan import Action, Plan, Planner, Selection, make_plan
from bnpipe.serving.folder import labels
from tests import toy_graph
from tests.pipeline.toy_home import STEPS, ToyHome, files_below


@pytest.fixture
def toy(tmp_path: Path) -> ToyHome:
    return ToyHome(tmp_path)


@pytest.fixture
def ran(toy: ToyHome) -> ToyHome:
    toy.run()
    return toy


def why(plan: Plan) -> dict[str, list[tuple[str, str]]]:
    return {s.name: [(r.code, r.sentence) for r in s.reasons] for s in plan.steps}


def test_in_a_new_home_everything_is_new_or_waits(toy: ToyHome) -> None:
    plan = toy.plan()
    assert why(plan) == {
        "source": [("new", "never run here")],
        "train": [("after", "after source")],
        "twin": [("after", "after source")],
        "judge": [
            ("after", "after train"),
            ("after", "after twin"),
            ("after", "champion is looked up when it is known"),
        ],
        "pusher": [("after", "after train"), ("after", "after judge")],
    }
    assert [s.name for s in plan.work] == list(STEPS)
    assert [s.key is None for s in plan.steps] == [False, True, True, True, True]


def test_after_a_run_everything_is_the_same(ran: ToyHome) -> None:
    plan = ran.plan()
    same = [("same", "unchanged since run 0001")]
    pushed = [("effect", "up to date (v1 live)")]
    assert why(plan) == {**dict.fromkeys(STEPS, same), "pusher": pushed}
    assert [s.action for s in plan.steps] == [*[Action.CACHED] * 4, Action.KEEP]
    assert plan.work == []


def test_a_changed_parameter_is_told_with_both_values(ran: ToyHome) -> None:
    assert why(ran.plan(rate=2))["train"] == [("params", "rate: 1 -> 2")]


def test_changed_data_outside_is_told(ran: ToyHome) -> None:
    ran.file.write_text("eight\n")
    assert why(ran.plan())["source"] == [("outside", "outside changed: file")]


def test_a_changed_input_is_told_by_its_field(ran: ToyHome) -> None:
    ran.file.write_text("eight\n")
    ran.run(Selection(to="source"))
    found = why(ran.plan())
    assert found["source"][0][0] == "same"
    assert found["train"] == found["twin"] == [("input", "new input: numbers")]


def test_machine_local_parameters_are_no_reason(ran: ToyHome, tmp_path: Path) -> None:
    ran.file = shutil.copy(ran.file, tmp_path / "elsewhere.txt")
    assert ran.steps()["source"].action is Action.CACHED


def test_changed_code_is_told_by_file(ran: ToyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    real = CodeDigests.closure

    def edited(self: CodeDigests, modules: list[str]) -> dict[str, str]:
        return {**real(self, modules), "bnpipe.data.errors": "other", "bnpipe.data.new": "new"}

    monkeypatch.setattr(CodeDigests, "closure", edited)
    told = [("code", "code changed: data/errors.py, data/new.py")]
    assert why(ran.plan())["source"] == told


def test_a_changed_library_is_told_with_both_versions(
    ran: ToyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {**fingerprint.environment(), "numpy": "99.0"}
    monkeypatch.setattr(fingerprint, "environment", lambda: now)
    (reason,) = why(ran.plan())["source"]
    assert reason[0] == "environment"
    assert reason[1].startswith("numpy ") and reason[1].endswith(" -> 99.0")


def test_another_python_is_the_one_reason_for_what_it_changes(
    ran: ToyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    was = fingerprint.environment()["python"]
    now = {**fingerprint.environment(), "python": "3.99"}
    monkeypatch.setattr(fingerprint, "environment", lambda: now)
    assert why(ran.plan())["source"] == [("environment", f"Python {was} -> 3.99")]


def test_a_changed_data_file_is_told(toy: ToyHome, tmp_path: Path) -> None:
    schema = tmp_path / "schema.pbtxt"
    schema.write_text("a")

    def graph() -> Graph:
        component = dataclasses.replace(toy_graph.SOURCE, data_files=(str(schema),))
        made = Graph()
        made.add(component, toy_graph.NoInputs(), toy_graph.SourceParams(file=str(toy.file)))
        return made

    run_graph(graph(), toy.home, toy_graph.toy_settings())  # type: ignore[arg-type]
    assert make_plan(graph(), toy.store).steps[0].action is Action.CACHED
    schema.write_text("b")
    assert why(make_plan(graph(), toy.store))["source"] == [("file", f"file changed: {schema}")]


def test_every_changed_part_is_a_reason_of_its_own(ran: ToyHome) -> None:
    ran.file.write_text("eight\n")
    ran.run(Selection(to="source"))
    assert why(ran.plan(rate=2))["train"] == [
        ("input", "new input: numbers"),
        ("params", "rate: 1 -> 2"),
    ]


def test_reasons_are_told_against_the_newest_run(ran: ToyHome) -> None:
    ran.run(rate=2)
    assert why(ran.plan(rate=3))["train"] == [("params", "rate: 2 -> 3")]
    assert why(ran.plan(rate=1))["train"] == [("same", "unchanged since run 0001")]


def test_forced_steps_run_and_what_follows_waits(ran: ToyHome) -> None:
    found = ran.plan(Selection(force=("train",)))
    assert why(found)["train"] == [("forced", "forced")]
    assert [s.name for s in found.work] == ["train", "judge", "pusher"]
    assert why(found)["judge"][0] == ("after", "after train")


def test_a_forced_effect_runs_though_nothing_is_needed(ran: ToyHome) -> None:
    assert [s.name for s in ran.plan(Selection(force=("pusher",))).work] == ["pusher"]


def test_a_lost_object_is_told_as_gone(ran: ToyHome) -> None:
    (digest,) = ran.steps()["twin"].record.outputs.values()  # type: ignore[union-attr]
    shutil.rmtree(ran.store.object_path(digest))
    assert why(ran.plan())["twin"] == [("gone", "its result is gone from the store")]


def test_a_refusing_gate_stops_what_was_added_later_and_nothing_else(toy: ToyHome) -> None:
    toy.run(passes=False)
    plan = toy.plan(passes=False)
    assert why(plan)["pusher"] == [("verdict", "stopped by judge: not good enough")]
    assert plan.steps[-1].action is Action.STOPPED
    assert plan.work == []


def test_what_is_withdrawn_is_held_back(ran: ToyHome) -> None:
    ran.run(rate=2)
    labels.rollback(ran.served, reason="bad")
    found = ran.plan(rate=2)
    assert why(found)["pusher"] == [("effect", "held back (v2 withdrawn: bad)")]
    assert found.work == []


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(to="source"), ("source",)),
        (Selection(to="twin"), ("source", "twin")),
        (Selection(to="judge"), ("source", "train", "twin", "judge")),
        (Selection(to="pusher"), STEPS),
        (Selection(only="judge"), ("source", "train", "twin", "judge")),
        (Selection(force=("judge",)), STEPS),
        (Selection(to="train", force=("source",)), ("source", "train")),
    ],
)
def test_selections_name_steps_in_order(
    toy: ToyHome, selection: Selection, expected: tuple[str, ...]
) -> None:
    assert tuple(toy.steps(selection)) == expected


def test_to_includes_the_gates_before_a_step_and_what_they_need(toy: ToyHome) -> None:
    g = toy.graph()
    late = Component(
        "late",
        toy_graph.NoInputs,
        toy_graph.SourceOutputs,
        toy_graph.SourceParams,
        toy_graph.source,
    )
    g.add(late, toy_graph.NoInputs(), toy_graph.SourceParams())
    assert Selection(to="late").steps(g) == ["source", "train", "twin", "judge", "late"]


def test_only_one_step_and_force_of_another_are_refused_by_name(toy: ToyHome) -> None:
    with pytest.raises(ConfigError) as caught:
        toy.plan(Selection(only="judge", force=("judge", "source")))
    assert caught.value.headline == "--only judge runs that step alone, received --force source"
    assert caught.value.hint == "bnpipe run --to judge --force judge --force source"
    assert len(toy.plan(Selection(only="judge", force=("judge",))).steps) == 4


@pytest.mark.parametrize(
    "selection", [Selection(to="tain"), Selection(only="tain"), Selection(force=("source", "tain"))]
)
def test_an_unknown_step_is_told_with_the_known_ones(toy: ToyHome, selection: Selection) -> None:
    with pytest.raises(ConfigError, match=r"there is no step 'tain'; .*source, train, twin"):
        toy.plan(selection)


def test_a_plan_changes_nothing_but_the_memo_of_the_code(ran: ToyHome) -> None:
    folders = (ran.home, ran.served)
    before = files_below(*folders)
    for changes in ({}, {"rate": 2}, {"passes": False}):
        ran.plan(**changes)
        ran.plan(Selection(force=("source",)), **changes)
    after = files_below(*folders)
    memo = ran.home / "cache" / "code.json"
    assert {p for p in {*before, *after} if before.get(p) != after.get(p)} <= {memo}


def test_a_plan_in_a_new_home_makes_nothing(toy: ToyHome) -> None:
    toy.plan()
    assert not toy.home.exists() and not toy.served.exists()


def test_two_plans_of_the_same_state_are_equal(ran: ToyHome) -> None:
    assert ran.plan(rate=2).snapshot() == ran.plan(rate=2).snapshot()


def test_a_snapshot_is_plain_json(ran: ToyHome) -> None:
    snapshot: dict[str, Any] = json.loads(json.dumps(ran.plan(rate=2).snapshot()))
    train = snapshot["steps"][1]
    assert set(train) == {"name", "component", "action", "reasons", "key", "estimate_seconds"}
    assert train["action"] == "run"
    assert train["reasons"] == [{"code": "params", "sentence": "rate: 1 -> 2"}]
    assert len(train["key"]) == 64 and train["estimate_seconds"] >= 0
    assert snapshot["steps"][2]["component"] == "train"


def test_keys_do_not_depend_on_where_things_are(toy: ToyHome, tmp_path: Path) -> None:
    other = ToyHome(tmp_path / "other")
    toy.run()
    other.run()
    here, there = toy.steps(), other.steps()
    names = [n for n in STEPS if n != "pusher"]
    assert [here[n].key for n in names] == [there[n].key for n in names]


@dataclasses.dataclass(frozen=True)
class CompareInputs:
    new: Artifact
    old: Artifact | None = None


@dataclasses.dataclass(frozen=True)
class CompareOutputs:
    told: Artifact


@dataclasses.dataclass(frozen=True)
class CompareParams:
    pass


COMPARE = Component("compare", CompareInputs, CompareOutputs, CompareParams, lambda *_: {})


def test_a_reference_to_the_very_input_is_no_input(toy: ToyHome) -> None:
    toy.run()
    store, made = toy.store, toy.plan().steps[0].record
    assert made is not None
    digest = made.outputs["numbers"]
    graph, same = Graph(), Resolved(store.object_path(digest), digest, "v1")
    params = toy_graph.SourceParams(file=str(toy.file))
    numbers = graph.add(toy_graph.SOURCE, toy_graph.NoInputs(), params).numbers
    old = graph.external("old", Artifact, lambda _: same, candidate="source.numbers")
    graph.add(COMPARE, CompareInputs(numbers, old), CompareParams())
    plan = Planner(graph, store).step("compare")
    assert plan.bound["old"] is None and plan.digests == {"new": digest, "old": None}
