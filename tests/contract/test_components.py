"""What every component must do, run over all that `components` holds.

Components are found, not listed, and wired by the kinds of their inputs. A new one is tested as
soon as its module is there; `TINY` makes its parameters small where the defaults are not.
"""

import ast
import dataclasses
import importlib
import inspect
import json
import pickle
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bnpipe import components
from bnpipe.components.artifacts import Artifact, VerdictArtifact
from bnpipe.components.base import Component, key_params
from bnpipe.components.evaluator.params import Rules
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.manifest import describe
from tests.child import environment

HEAVY = (
    "apache_beam",
    "google.protobuf",
    "keras",
    "matplotlib",
    "numpy",
    "pyarrow",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_model_analysis",
    "tfx_bsl",
)
TINY: dict[str, dict[str, Any]] = {
    "example_gen": {"dataset": "rendered_digits", "size": 512, "shards": 2},
    "trainer": {"epochs": 2},
    "study": {"seeds": 1, "epochs": 1, "experiments": ("main",), "workers": 1},
    "evaluator": {
        "slices": (),
        "resamples": 100,
        "min_accuracy": 0.3,
        "min_class_accuracy": 0.0,
        "min_slice_accuracy": 0.0,
        "margin": 0.2,
        "max_calibration_error": 1.0,
        "rules": Rules(
            baseline_not_worse="warn",
            worst_class="off",
            slice_floor="off",
            baseline_slices="off",
            champion_slices="off",
        ),
    },
}


def found() -> Iterator[Component[Any, Any, Any]]:
    for info in pkgutil.iter_modules(components.__path__, "bnpipe.components."):
        component = getattr(importlib.import_module(info.name), "COMPONENT", None)
        if component is not None:
            yield component


COMPONENTS = {component.name: component for component in found()}
each = pytest.mark.parametrize("component", COMPONENTS.values(), ids=list(COMPONENTS))


def kinds(cls: type[Any]) -> Mapping[str, Any]:
    """The annotated types of an Inputs or Outputs, by field."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def required(component: Component[Any, Any, Any]) -> dict[str, type[Artifact]]:
    """The inputs that a component cannot do without."""
    return {n: k for n, k in kinds(component.Inputs).items() if isinstance(k, type)}


class World:
    """Runs components one after the other and keeps an artifact of every kind."""

    def __init__(self, run: Callable[..., Any], folder: Path) -> None:
        self._run, self._folder = run, folder
        self.served = folder / "served"
        self.pool: dict[type[Artifact], Artifact] = {}
        self._made: dict[str, Any] = {}

    def params(self, component: Component[Any, Any, Any]) -> Any:
        values = dict(TINY.get(component.name, {}))
        if "base_path" in {field.name for field in dataclasses.fields(component.Params)}:
            values["base_path"] = str(self.served)
        return component.Params(**values)

    def inputs(self, component: Component[Any, Any, Any]) -> Any:
        """Its required inputs, made by whichever components make such artifacts."""
        for kind in required(component).values():
            if kind not in self.pool:
                maker = next(c for c in COMPONENTS.values() if kind in kinds(c.Outputs).values())
                self.made(maker)
        bound = {name: self.pool[kind] for name, kind in required(component).items()}
        return component.Inputs(**{**dict.fromkeys(kinds(component.Inputs)), **bound})

    def run(self, component: Component[Any, Any, Any], name: str, inputs: Any) -> Any:
        folder = self._folder / f"{component.name}-{name}"
        return self._run(component, inputs, self.params(component), folder).outputs

    def made(self, component: Component[Any, Any, Any]) -> Any:
        if component.name not in self._made:
            outputs = self.run(component, "first", self.inputs(component))
            self._made[component.name] = outputs
            self.pool |= {type(a): a for a in vars(outputs).values()}
        return self._made[component.name]


@pytest.fixture(scope="module")
def world(run_component: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(run_component, tmp_path_factory.mktemp("world"))


def test_all_steps_of_the_pipeline_are_found() -> None:
    assert {"example_gen", "transform", "trainer", "evaluator", "pusher"} <= COMPONENTS.keys()


@each
def test_declaration_is_made_of_frozen_dataclasses(component: Component[Any, Any, Any]) -> None:
    for cls in (component.Inputs, component.Outputs, component.Params):
        assert dataclasses.is_dataclass(cls)
        assert cls.__dataclass_params__.frozen, cls  # type: ignore[attr-defined]
    assert all(issubclass(kind, Artifact) for kind in kinds(component.Outputs).values())
    optional = [k for k in kinds(component.Inputs).values() if not isinstance(k, type)]
    assert all(type(None) in typing.get_args(kind) for kind in optional)


@each
def test_params_have_defaults_and_survive_json(component: Component[Any, Any, Any]) -> None:
    from pydantic import TypeAdapter

    params = component.Params()
    text = json.dumps(dataclasses.asdict(params))
    assert TypeAdapter(component.Params).validate_python(json.loads(text)) == params
    json.dumps(key_params(params))


@each
def test_everything_is_documented(component: Component[Any, Any, Any]) -> None:
    assert inspect.getdoc(component.run)
    (tree,) = ast.parse(inspect.getsource(component.Params)).body
    assert isinstance(tree, ast.ClassDef)
    assert ast.get_docstring(tree)
    for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            documented = isinstance(following, ast.Expr) and isinstance(
                following.value, ast.Constant
            )
            assert documented, f"{ast.unparse(statement.target)} has no docstring"


@each
def test_component_can_be_pickled(component: Component[Any, Any, Any]) -> None:
    assert pickle.loads(pickle.dumps(component)) == component


@each
def test_import_is_light(component: Component[Any, Any, Any]) -> None:
    code = f"import sys, {component.module}; print(*(m for m in {HEAVY} if m in sys.modules))"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@each
def test_equal_inputs_give_equal_bytes(component: Component[Any, Any, Any], world: World) -> None:
    first = world.made(component)
    second = world.run(component, "again", world.inputs(component))
    for name in kinds(component.Outputs):
        before, after = (describe(getattr(outputs, name)) for outputs in (first, second))
        files = [{f.path: f.sha256 for f in m.files if f.digested} for m in (before, after)]
        assert files[0] == files[1], name
        assert before.digest == after.digest


@pytest.mark.parametrize(
    ("component", "field"),
    [
        pytest.param(component, field, id=f"{component.name}-{field}")
        for component in COMPONENTS.values()
        for field in required(component)
    ],
)
def test_input_without_files_is_refused_in_one_line(
    component: Component[Any, Any, Any], field: str, world: World, tmp_path: Path
) -> None:
    inputs = world.inputs(component)
    empty = dataclasses.replace(inputs, **{field: getattr(inputs, field).at(tmp_path)})
    try:
        outputs = world.run(component, f"without-{field}", empty)
    except BnpipeError as error:
        told = str(error)
    else:
        # To a gate, evidence that cannot be used is a reason to refuse.
        verdicts = [a.verdict() for a in vars(outputs).values() if isinstance(a, VerdictArtifact)]
        assert [verdict.passed for verdict in verdicts] == [False]
        told = verdicts[0].sentence
    assert told
    assert "\n" not in told
