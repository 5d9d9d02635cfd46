"""The network of the source article, from `Params`: (Dense, normalisation, relu) twice, Dense."""

from __future__ import annotations

import keras
import numpy as np

from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.params import Params

ACTIVATION = "relu"


def build(features: int, classes: int, params: Params) -> keras.Model:
    """The untrained network.

    Every Dense layer draws its weights from a seed of its own, so networks that differ only in
    their normalisation start from the same Dense weights.

    Args:
        features: size of an input row.
        classes: number of logits. The softmax is left to the loss and to the exported graph,
            where it can be combined with the logarithm.
        params: the component's parameters.

    Returns:
        A model float[N, features] -> logits float[N, classes], with named layers.
    """
    inputs = x = keras.Input((features,), name="features", dtype="float32")
    for index, units in enumerate(params.hidden_units, start=1):
        name = f"hidden_{index}"
        x = _dense(units, name, index, params)(x)
        if params.normalization_position == "before_activation":
            x = _normalized(x, name, params)
        x = keras.layers.Activation(ACTIVATION, name=f"{name}_activation", dtype=params.dtype)(x)
        if params.normalization_position == "after_activation":
            x = _normalized(x, name, params)
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


def _dense(units: int, name: str, index: int, params: Params) -> keras.layers.Layer:
    initializer = keras.initializers.GlorotUniform(seed=_seed(params, index, "dense"))
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=params.dtype)


def _normalized(x: keras.KerasTensor, name: str, params: Params) -> keras.KerasTensor:
    name = f"{name}_normalization"
    if params.normalization == "none":
        return x
    if params.normalization == "layer":
        return keras.layers.LayerNormalization(
            epsilon=params.epsilon, name=name, dtype=params.dtype
        )(x)
    layer = BatchNorm if params.normalization == "custom_batch" else keras.layers.BatchNormalization
    return layer(momentum=params.momentum, epsilon=params.epsilon, name=name, dtype=params.dtype)(x)


def _seed(params: Params, index: int, use: str) -> int:
    words = [params.seed, index, ("dense", "dropout").index(use)]
    return int(np.random.SeedSequence(words).generate_state(1)[0])
