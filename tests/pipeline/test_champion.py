"""A warm start: which model a version number names, and that the answer does not move."""

import dataclasses
from pathlib import Path

import pytest

from bnpipe.components.artifacts import Model
from bnpipe.components.base import Component
from bnpipe.pipeline.champion import model_of_version
from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import StepPlan, make_plan
from bnpipe.serving.errors import ServingError
from tests.pipeline.toy_home import ToyHome, object_of


@dataclasses.dataclass(frozen=True)
class Inputs:
    start: Model | None = None


@dataclasses.dataclass(frozen=True)
class Outputs:
    model: Model


@dataclasses.dataclass(frozen=True)
class Params:
    pass


GO_ON = Component("go_on", Inputs, Outputs, Params, lambda *_: {})


@pytest.fixture
def toy(tmp_path: Path) -> ToyHome:
    return ToyHome(tmp_path)


def graph(toy: ToyHome, version: int) -> Graph:
    g = Graph()
    start = g.external("warm_start", Model, model_of_version(toy.served, toy.home, version))
    g.add(GO_ON, Inputs(start), Params())
    return g


def plan(toy: ToyHome, version: int) -> StepPlan:
    (step,) = make_plan(graph(toy, version), toy.store).steps
    return step


def test_a_version_names_the_model_it_was_published_from_whatever_is_live(toy: ToyHome) -> None:
    first = object_of(toy.run(), toy, "train")
    before = plan(toy, 1)
    assert before.bound["start"] == Model("warm_start", first)
    assert (first / "training.weights.h5").is_file()
    second = object_of(toy.run(rate=2), toy, "train")
    assert plan(toy, 1) == before
    assert before.key != plan(toy, 2).key
    assert plan(toy, 2).bound["start"] == Model("warm_start", second)


def test_a_version_that_is_not_there_is_one_line(toy: ToyHome) -> None:
    toy.run()
    with pytest.raises(ServingError) as caught:
        plan(toy, 9)
    assert "has no record of v9" in str(caught.value) and "\n" not in str(caught.value)
    assert "bnpipe versions" in str(caught.value.hint)


def test_a_version_of_another_home_is_one_line(toy: ToyHome, tmp_path: Path) -> None:
    toy.run()
    toy.home = tmp_path / "elsewhere"
    with pytest.raises(ServingError, match=r"the model behind v1 of .* is not in .*elsewhere") as e:
        plan(toy, 1)
    assert "bnpipe versions" in str(e.value.hint)


def test_the_candidate_of_the_product_starts_warm_when_asked_and_the_baseline_never(
    tmp_path: Path,
) -> None:
    cold = build(from_values({}), tmp_path)
    warm = build(from_values({"trainer": {"warm_start": 3}}), tmp_path)
    assert set(warm.references) - set(cold.references) == {"warm_start"}
    starts = [g.nodes["trainer"].inputs.start for g in (cold, warm)]
    assert starts == [None, Model("warm_start")]
    baselines = [g.nodes["baseline"] for g in (cold, warm)]
    assert baselines[0] == baselines[1] and baselines[1].inputs.start is None
