"""From the trained Keras model to the SavedModel, with proof that both give the same answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.examples import Floats
from bnpipe.components.network.network import ACTIVATION
from bnpipe.components.network.params import TrainingError
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.serving.export import classifier
from bnpipe.serving.export.folding import (
    Agreement,
    BatchNormalization,
    Dense,
    Layer,
    LayerNormalization,
    Relu,
    compare,
    fold,
)

Signature = Callable[..., dict[str, tf.Tensor]]

TOLERANCE = 1e-5
ROUNDINGS, LARGEST_TOLERANCE = 8, 0.1
"""Where numbers are large (a learning rate of 1), the trained model itself is further than 1e-5
from its answers without rounding. The exported one may be 8 times as far from the trained one, but
not so far that it might be another model."""

LATENCY_CALLS = 200


@dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        folded: names of the normalisations that were folded.
        left: names of the batch normalisations that are still in the graph.
        facts: facts for the step: agreement with the trained model, and the median microseconds
            of one call with one example, as exported and, if anything was folded, before.
    """

    folded: tuple[str, ...]
    left: tuple[str, ...]
    facts: Mapping[str, float | int | None]


def export_verified(
    model: keras.Model,
    exact: keras.Model,
    folder: Path,
    info: DatasetInfo,
    blocks: Iterable[Floats],
    fold_batch_norm: bool,
    temperature: float = 1.0,
) -> Exported:
    """Exports a trained model and compares its answers.

    Args:
        model: the trained model.
        exact: the same in float64: its distance is what rounding does to numbers of that size.
        folder: where the SavedModel goes.
        info: the data set.
        blocks: the features, float32[n, D] in [0, 1], on which to compare, some at a time.
        fold_batch_norm: true to fold all that can be folded.
        temperature: what the exported model divides its logits by.

    Raises:
        TrainingError: a probability differs by 1e-5 (by more where rounding alone does that) or
            more, or the most probable class of an example differs though it leads by that much.
    """
    layers = _divided(layers_of(model), temperature)
    result = fold(layers) if fold_batch_norm else None
    exported = classifier.export(folder, result.layers if result else layers, info)
    serve = exported["probabilities_only"]
    agreement, rounding, images_compared = _agreement(model, exact, serve, blocks, temperature)
    tolerance = min(max(TOLERANCE, ROUNDINGS * rounding), LARGEST_TOLERANCE)
    if not agreement.within(tolerance):
        raise TrainingError(
            f"the exported model's probabilities differ by {agreement.max_difference:.2g} from the "
            f"trained one's on {images_compared} images: expected less than {tolerance:.2g}",
            hint="export it as it was trained: --set serving.fold_batch_norm=false",
        )
    measured = [serve]
    if result and result.folded:
        measured.append(classifier.Classifier(layers, info).signature("probabilities_only"))
    latency, *unfolded_latency = _latencies_us(measured, info.features)
    folded, left = (result.folded, result.left) if result else ((), _batch_normalizations(layers))
    facts = {
        "folded_normalizations": len(folded),
        "unfolded_normalizations": len(left),
        "export_images_compared": images_compared,
        "export_max_difference": agreement.max_difference,
        "export_tolerance": tolerance,
        "export_changed_classes": agreement.changed,
        "latency_us": latency,
        "unfolded_latency_us": unfolded_latency[0] if unfolded_latency else None,
    }
    return Exported(folded, left, facts)


def layers_of(model: keras.Model) -> list[Layer]:
    """The model's inference mode as plain float64 or float32 arrays, without dropout.

    Raises:
        TrainingError: there is a layer that cannot be exported.
    """
    layers: list[Layer] = []
    for layer in model.layers:
        match layer:
            case keras.layers.InputLayer() | keras.layers.Dropout():
                continue
            case keras.layers.Dense():
                layers.append(Dense(layer.name, _array(layer.kernel), _array(layer.bias)))
            case keras.layers.BatchNormalization() | BatchNorm():
                layers.append(
                    BatchNormalization(
                        layer.name,
                        gamma=_array(layer.gamma),
                        beta=_array(layer.beta),
                        mean=_array(layer.moving_mean),
                        variance=_array(layer.moving_variance),
                        epsilon=layer.epsilon,
                    )
                )
            case keras.layers.LayerNormalization():
                gamma, beta = _array(layer.gamma), _array(layer.beta)
                layers.append(LayerNormalization(layer.name, gamma, beta, layer.epsilon))
            case keras.layers.Activation() if layer.activation.__name__ == ACTIVATION:
                layers.append(Relu(layer.name))
            case _:
                raise TrainingError(f"expected a layer that can be exported, received {layer}")
    return layers


def _divided(layers: list[Layer], temperature: float) -> list[Layer]:
    """The layers with logits that are divided by a number."""
    *before, last = layers
    assert isinstance(last, Dense), "the last layer gives the logits"
    divided = replace(last, kernel=last.kernel / temperature, bias=last.bias / temperature)
    return [*before, divided]


def _array(variable: keras.Variable) -> npt.NDArray[np.floating]:
    return variable.numpy()


def _batch_normalizations(layers: list[Layer]) -> tuple[str, ...]:
    return tuple(layer.name for layer in layers if isinstance(layer, BatchNormalization))


def _agreement(
    model: keras.Model,
    exact: keras.Model,
    serve: Signature,
    blocks: Iterable[Floats],
    temperature: float,
) -> tuple[Agreement, float, int]:
    """The agreement, the largest effect of rounding on a probability, and the number of rows."""
    agreement, rounding, images = Agreement(0.0, 0, 0.0), 0.0, 0
    for features in blocks:
        trained = tf.nn.softmax(model(features, training=False) / temperature).numpy()
        served = serve(features=tf.constant(features))["probabilities"].numpy()
        agreement = agreement.joined(compare(trained, served))
        logits = exact(features.astype(np.float64), training=False)
        unrounded = tf.nn.softmax(logits / temperature).numpy()
        rounding = max(rounding, float(np.abs(unrounded - trained).max()))
        images += len(features)
    return agreement, rounding, images


def _latencies_us(calls: list[Signature], features: int) -> list[float]:
    """Median microseconds of a call with one example; they take turns, so that noise hits all."""
    example = tf.zeros([1, features])
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(LATENCY_CALLS):
        for serve, times in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            serve(features=example)["probabilities"].numpy()
            times.append(time.perf_counter() - started)
    return [float(np.median(times)) * 1e6 for times in seconds]
