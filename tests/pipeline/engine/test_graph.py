"""The graph: what may be wired to what, and what a step needs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bnpipe.components.artifacts import Artifact, Examples, Model, UnboundArtifactError
from bnpipe.components.base import Component, Context, Facts
from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.errors import DefinitionError, ExitCode
from bnpipe.pipeline.engine.graph import Graph, step_of


@dataclass(frozen=True)
class Nothing:
    pass


@dataclass(frozen=True)
class MakesModel:
    model: Model


@dataclass(frozen=True)
class MakesTwo:
    examples: Examples
    model: Model


@dataclass(frozen=True)
class TakesModel:
    model: Model


@dataclass(frozen=True)
class MayTakeModel:
    model: Model | None = None


def run(inputs: Any, outputs: Any, params: Any, ctx: Context) -> Facts:
    return {}


SOURCE = Component("source", Nothing, MakesTwo, Nothing, run)
STEP = Component("step", TakesModel, MakesModel, Nothing, run)
OPTIONAL = Component("optional", MayTakeModel, MakesModel, Nothing, run)
GATE = Component("gate", TakesModel, MakesModel, Nothing, run, gate=True)
NOTHING = Nothing()


def test_outputs_know_their_producer_and_have_no_place_yet() -> None:
    made = Graph().add(SOURCE, NOTHING, NOTHING)
    assert isinstance(made.model, Model) and isinstance(made.examples, Examples)
    assert (made.model.producer, made.examples.producer) == ("source.model", "source.examples")
    assert step_of(made.model) == "source"
    with pytest.raises(UnboundArtifactError, match=r"source\.model has no location"):
        _ = made.model.path


def refusal(build_it: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        build_it()
    assert caught.value.exit_code is ExitCode.USAGE
    return str(caught.value)


def test_an_artifact_of_another_kind_is_refused() -> None:
    g = Graph()
    made = g.add(SOURCE, NOTHING, NOTHING)
    wrong: Any = made.examples
    told = refusal(lambda: g.add(STEP, TakesModel(wrong), NOTHING))
    assert told == "step.model takes Model, got Examples"


def test_a_missing_input_is_refused_unless_it_is_optional() -> None:
    g = Graph()
    none: Any = None
    assert "step.model takes Model, got NoneType" in refusal(
        lambda: g.add(STEP, TakesModel(none), NOTHING)
    )
    g.add(OPTIONAL, MayTakeModel(), NOTHING)
    assert g.upstream("optional") == []


def test_inputs_come_from_steps_that_were_added_before() -> None:
    elsewhere = Graph().add(SOURCE, NOTHING, NOTHING).model
    g = Graph()
    assert "step.model comes from source.model, which is not a step added before it" in refusal(
        lambda: g.add(STEP, TakesModel(elsewhere), NOTHING)
    )
    assert "comes from nowhere" in refusal(lambda: g.add(STEP, TakesModel(Model()), NOTHING))


def test_a_name_is_used_once() -> None:
    g = Graph()
    model = g.add(SOURCE, NOTHING, NOTHING).model
    assert "two steps are called source; give one a name=" in refusal(
        lambda: g.add(SOURCE, NOTHING, NOTHING)
    )
    g.add(STEP, TakesModel(model), NOTHING, name="other")
    g.external("champion", Model, lambda digest: None, candidate=model.producer)
    for name in ("champion", "other"):
        assert name in refusal(lambda name=name: g.add(SOURCE, NOTHING, NOTHING, name=name))
        assert name in refusal(
            lambda name=name: g.external(name, Model, lambda digest: None, candidate=model.producer)
        )


def test_fields_are_artifacts_only() -> None:
    @dataclass(frozen=True)
    class Odd:
        number: int

    odd: Any = Component("odd", Nothing, Odd, Nothing, run)
    assert "Odd.number must be an artifact kind" in refusal(
        lambda: Graph().add(odd, NOTHING, NOTHING)
    )


def test_a_kind_that_is_more_special_fits() -> None:
    @dataclass(frozen=True)
    class TakesAny:
        anything: Artifact

    g = Graph()
    model = g.add(SOURCE, NOTHING, NOTHING).model
    g.add(Component("any", TakesAny, MakesModel, Nothing, run), TakesAny(model), NOTHING)
    assert g.upstream("any") == ["source"]


def test_ancestors_and_gates() -> None:
    g = Graph()
    first = g.add(SOURCE, NOTHING, NOTHING).model
    second = g.add(STEP, TakesModel(first), NOTHING, name="second").model
    g.add(GATE, TakesModel(first), NOTHING)
    reference = g.external("champion", Model, lambda digest: None, candidate=second.producer)
    g.add(OPTIONAL, MayTakeModel(second), NOTHING)
    g.add(STEP, TakesModel(reference), NOTHING, name="last")
    assert g.ancestors("source") == set()
    assert g.ancestors("optional") == {"source", "second"}
    assert g.upstream("last") == [] and g.ancestors("last") == set()
    assert list(g.gates_before("gate")) == []
    assert list(g.gates_before("optional")) == list(g.gates_before("last")) == ["gate"]


# The product


ORDER = [
    "example_gen",
    "statistics_gen",
    "example_validator",
    "cross_validation",
    "transform",
    "trainer",
    "baseline",
    "label_validator",
    "evaluator",
    "infra_validator",
    "pusher",
]
"""The steps of the product, in their order."""


def test_the_product_has_its_steps_in_order(tmp_path: Path) -> None:
    graph = build(from_values({}), tmp_path)
    assert list(graph.nodes) == ORDER
    assert list(graph.references) == ["champion_data", "champion"]


def test_the_product_judges_the_twin_without_batch_normalisation(tmp_path: Path) -> None:
    graph = build(from_values({"trainer": {"epochs": 3}}), tmp_path)
    candidate, baseline = (graph.nodes[n] for n in ("trainer", "baseline"))
    assert candidate.component is baseline.component
    assert candidate.params.normalization == "batch"
    assert baseline.params.normalization == "none"
    assert candidate.params.epochs == baseline.params.epochs == 3


def test_nothing_is_published_without_the_gates(tmp_path: Path) -> None:
    graph = build(from_values({}), tmp_path)
    for gate in ("evaluator", "infra_validator"):
        assert graph.nodes[gate].component.gate
        assert gate in graph.gates_before("pusher")
        assert gate in graph.ancestors("pusher")
    assert graph.nodes["pusher"].component.effect is not None


def test_models_are_published_below_home_under_the_name_of_the_data(tmp_path: Path) -> None:
    def pusher(**values: Any) -> Any:
        return build(from_values(values), tmp_path).nodes["pusher"].params

    assert pusher().base_path == str(tmp_path / "served" / "mnist")
    letters = pusher(data={"dataset": "emnist/letters"})
    assert letters.model_name == Path(letters.base_path).name
    assert "/" not in letters.model_name
    named = pusher(serving={"base_path": "/models/digits", "model_name": "digits"})
    assert (named.base_path, named.model_name) == ("/models/digits", "digits")


def test_every_span_is_a_slice_of_its_own(tmp_path: Path) -> None:
    plain = build(from_values({}), tmp_path).nodes["evaluator"].params
    spans = from_values({"data": {"spans": "/spans/{SPAN}"}})
    assert build(spans, tmp_path).nodes["evaluator"].params.slices == (*plain.slices, "span")
