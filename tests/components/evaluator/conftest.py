from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bnpipe.components.artifacts import Model, ServedModel, TransformedExamples
from tests.components.evaluator import fakes

IMAGES = 1000


class World(NamedTuple):
    """Examples, a good candidate, a somewhat worse baseline, and a champion."""

    examples: TransformedExamples
    candidate: Model
    baseline: Model
    champion: ServedModel


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("evaluator_world")
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


@pytest.fixture(scope="session")
def evaluated(world: World, run_component: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The evaluator run once on the small world: its bound outputs and facts."""
    from bnpipe.components.evaluator import COMPONENT, Inputs, Params

    folder = tmp_path_factory.mktemp("evaluated")
    return run_component(COMPONENT, Inputs(*world), Params(golden_images=4), folder)
