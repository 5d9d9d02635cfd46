from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bnpipe.components.artifacts import Model, ServedModel, TransformedExamples
from tests.components.evaluator import fakes
from tests.conftest import MadeOnce

IMAGES = 1000


class World(NamedTuple):
    """Examples, a good candidate, a somewhat worse baseline, and a champion."""

    examples: TransformedExamples
    candidate: Model
    baseline: Model
    champion: ServedModel


@pytest.fixture(scope="session")
def world(made_once: MadeOnce) -> World:
    return made_once("evaluator_world", _make_world)


def _make_world(folder: Path) -> World:
    examples = fakes.write_examples(folder / "examples", *fakes.draw(IMAGES, seed=2))
    features, labels = fakes.draw(2000, seed=1)
    weights = fakes.fit(features, labels)
    candidate = fakes.write_model(folder / "candidate", *weights)
    baseline = fakes.write_model(folder / "baseline", *fakes.fit(features[:300], labels[:300]))
    champion = fakes.write_model(folder / "3", *fakes.fit(features[:1500], labels[:1500]))
    served = ServedModel("champion", move_up(champion.path))
    return World(examples, candidate, baseline, served)


def move_up(folder: Path) -> Path:
    """Turns a Model folder into a served version, whose SavedModel lies at its top."""
    for entry in (folder / "saved_model").iterdir():
        entry.rename(folder / entry.name)
    (folder / "saved_model").rmdir()
    return folder


@pytest.fixture
def without_tfma(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of the gate: TFMA takes most of the time, and has test_evaluator_tfma.py."""
    from bnpipe.components.evaluator import tfma_eval

    monkeypatch.setattr(tfma_eval, "evaluate", lambda *_: None)
    monkeypatch.setattr(tfma_eval, "failures", lambda *_: ())


@pytest.fixture(scope="session")
def evaluated(world: World, run_component: Any, made_once: MadeOnce) -> Any:
    """The evaluator run once on the small world: its bound outputs and facts."""

    def make(folder: Path) -> Any:
        from bnpipe.components.evaluator import COMPONENT, Inputs, Params

        return run_component(COMPONENT, Inputs(*world), Params(golden_images=4), folder)

    return made_once("evaluated", make)
