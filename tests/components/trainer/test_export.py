"""The proof that the exported model answers as the trained one does, however large its numbers."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from bnpipe.components.network import network
from bnpipe.components.network.params import Params, TrainingError
from bnpipe.components.trainer import export
from bnpipe.components.trainer.work import _in
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.pipeline.engine.errors import ExitCode, StepFailed

INFO = DatasetInfo("blobs", "1.0.0", 28, 28, tuple("abcdefghij"), {}, True)
ROWS = np.random.default_rng(0).random((2000, INFO.features), np.float32)


def networks(scale: float) -> tuple[keras.Model, keras.Model]:
    """A network whose numbers are `scale` times as large as at the start, and its exact twin."""
    params = Params(hidden_units=(64, 64))
    net = network.build(INFO.features, INFO.classes, params)
    rng = np.random.default_rng(1)
    for layer in net.layers:
        if isinstance(layer, keras.layers.Dense):
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel * np.float32(scale), bias])
        elif layer.name.endswith("normalization"):
            layer.set_weights([rng.uniform(0.5, 2.0, v.shape) for v in layer.weights])
    return net, _in("float64", net, INFO, params)


def verified(net: keras.Model, exact: keras.Model, folder: Path) -> export.Exported:
    blocks = (ROWS[i : i + 500] for i in range(0, len(ROWS), 500))
    return export.export_verified(net, exact, folder / "saved_model", INFO, blocks, True)


@pytest.mark.parametrize(("scale", "large"), [(1.0, False), (30.0, True)])
def test_the_tolerance_follows_from_the_size_of_the_numbers(
    scale: float, large: bool, tmp_path: Path
) -> None:
    """A learning rate of 1 makes logits of thousands: rounding alone is more than 1e-5 then."""
    facts = verified(*networks(scale), tmp_path).facts
    difference, tolerance = facts["export_max_difference"], facts["export_tolerance"]
    assert difference is not None
    assert tolerance is not None
    assert (difference >= export.TOLERANCE) == (tolerance > export.TOLERANCE) == large
    assert difference < tolerance < 0.1


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_another_model_is_no_rounding(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the step that finds it has failed: nothing was published, no server was asked."""
    original = export.layers_of

    def wrong(model: keras.Model) -> list[export.Layer]:
        layers = original(model)
        layers[1] = dataclasses.replace(layers[1], epsilon=0.1)
        return layers

    monkeypatch.setattr(export, "layers_of", wrong)
    with pytest.raises(
        TrainingError, match=r"differ by .* on 2000 images: expected less"
    ) as caught:
        verified(*networks(scale), tmp_path)
    assert StepFailed("trainer", caught.value, hint="").exit_code is ExitCode.FAILED
