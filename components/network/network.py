"""The network of the source article, from `Params`: (Dense, normalisation, relu) twice, Dense."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.params import Params

ACTIVATION = "relu"
_BEGIN = {"gamma": 1.0, "moving_variance": 1.0}  # what else there is begins with 0


def build(
    features: int,
    classes: int,
    params: Params,
    batch_norm: Callable[..., keras.layers.Layer] = BatchNorm,
) -> keras.Model:
    """The untrained network.

    Every Dense layer draws its weights from a seed of its own, so networks that differ only in
    their normalisation start from the same Dense weights.

    Args:
        features: size of an input row.
        classes: number of logits. The softmax is left to the loss and to the exported graph,
            where it can be combined with the logarithm.
        params: the component's parameters.
        batch_norm: the layer that `custom_batch` stands for; it takes the arguments of ours.

    Returns:
        A model float[N, features] -> logits float[N, classes], with named layers.
    """
    inputs = x = keras.Input((features,), name="features", dtype="float32")
    for index, units in enumerate(params.hidden_units, start=1):
        name = f"hidden_{index}"
        x = _dense(units, name, index, params)(x)
        if params.normalization_position == "before_activation":
            x = _normalized(x, name, params, batch_norm)
        x = keras.layers.Activation(ACTIVATION, name=f"{name}_activation", dtype=params.dtype)(x)
        if params.normalization_position == "after_activation":
            x = _normalized(x, name, params, batch_norm)
        if params.dropout:
            # Last in its block: before a normalisation it would shift the variance that is
            # learned in training away from the one at inference (https://arxiv.org/abs/1801.05134).
            x = keras.layers.Dropout(
                params.dropout,
                seed=_seed(params, index, "dropout"),
                name=f"{name}_dropout",
                dtype=params.dtype,
            )(x)
    logits = _dense(classes, "logits", 0, params)(x)
    return keras.Model(inputs, logits, name="network")


def restart(model: keras.Model, params: Params) -> None:
    """Gives a network of `build` the values that it begins with under the seed of these `params`.

    What was compiled for it stays: one compilation serves many trainings.
    """
    for index in range(len(params.hidden_units) + 1):
        for layer in model.layers:
            block = f"hidden_{index}" if index else "logits"
            if layer.name != block and not layer.name.startswith(f"{block}_"):
                continue
            for weight in layer.weights:
                if weight.name == "kernel":
                    weight.assign(_initializer(index, params)(weight.shape, weight.dtype))
                else:
                    weight.assign(keras.ops.full(weight.shape, _BEGIN.get(weight.name, 0.0)))
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                generator.state.assign([_seed(params, index, "dropout"), 0])


def _initializer(index: int, params: Params) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=_seed(params, index, "dense"))


def _dense(units: int, name: str, index: int, params: Params) -> keras.layers.Layer:
    initializer = _initializer(index, params)
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=params.dtype)


def _normalized(
    x: keras.KerasTensor, name: str, params: Params, batch_norm: Callable[..., keras.layers.Layer]
) -> keras.KerasTensor:
    name = f"{name}_normalization"
    if params.normalization == "none":
        return x
    if params.normalization == "layer":
        return keras.layers.LayerNormalization(
            epsilon=params.epsilon, name=name, dtype=params.dtype
        )(x)
    layer = (
        batch_norm if params.normalization == "custom_batch" else keras.layers.BatchNormalization
    )
    return layer(momentum=params.momentum, epsilon=params.epsilon, name=name, dtype=params.dtype)(x)


def _seed(params: Params, index: int, use: str) -> int:
    words = [params.seed, index, ("dense", "dropout").index(use)]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
