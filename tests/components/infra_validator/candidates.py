"""A small model, blessed and with golden requests, as trainer and evaluator hand it over."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from bnpipe.components.artifacts import Blessing, Evaluation, Model
from bnpipe.components.infra_validator import Inputs
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.serving.export.digest import tree_digest

HEIGHT, WIDTH, CLASSES = 6, 5, 4
INFO = DatasetInfo("shapes", "1.0.0", HEIGHT, WIDTH, ("a", "b", "c", "ä"), {}, True)
ROWS = 5


def export(folder: Path) -> Path:
    """Exports a network of random weights."""
    from bnpipe.serving.export import classifier
    from bnpipe.serving.export.folding import Dense, Relu

    generator = np.random.default_rng(0)

    def floats(*shape: int) -> Any:
        return generator.normal(size=shape).astype(np.float32)

    layers = [
        Dense("hidden", floats(HEIGHT * WIDTH, 8), floats(8)),
        Relu("relu"),
        Dense("logits", floats(8, CLASSES), floats(CLASSES)),
    ]
    classifier.export(folder, layers, INFO)
    return folder


def golden(saved_model: Path, file: Path) -> Path:
    """What the evaluator leaves for the infra validator."""
    from bnpipe.components.evaluator.golden import write

    features = np.random.default_rng(1).random((ROWS, INFO.features), np.float32)
    write(saved_model, features, INFO, file)
    return file


def inputs(folder: Path, saved_model: Path, golden_file: Path) -> Inputs:
    """Artifacts around a copy of a SavedModel, blessed as it is now."""
    model = Model("trainer.model", folder / "model")
    shutil.copytree(saved_model, model.saved_model, symlinks=True)
    (model.path / "model_card.json").write_text("{}")
    evaluation = Evaluation("evaluator.evaluation", folder / "evaluation")
    evaluation.path.mkdir()
    shutil.copy(golden_file, evaluation.path)
    blessing = Blessing("evaluator.blessing", folder / "blessing")
    blessing.path.mkdir()
    found = Inputs(model, blessing, evaluation)
    bless(found)
    return found


def bless(found: Inputs, digest: str | None = None) -> None:
    """Writes a blessing of the model's bytes, or of a digest."""
    verdict = {
        "passed": True,
        "sentence": "better than the baseline",
        "model": digest or tree_digest(found.model.saved_model),
    }
    (found.blessing.path / "blessing.json").write_text(json.dumps(verdict))
