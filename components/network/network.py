"""The network of the source article, from `Params`: (Dense, normalisation, relu) twice, Dense."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.params import Params

ACTIVATION = "relu"
_BEGIN = {"gamma": 1.0, "moving_variance": 1.0}  # what else there is begins with 0


def draw(like: tf.Tensor, seeds: Any) -> tf.Tensor:
    """Random numbers of [0, 1) in the shape of a tensor.

    They are Threefry's: XLA's code for Philox, which Keras takes, needs ten times as long on a CPU,
    41 us against 4 us for the 32 x 64 numbers of a layer, when a step without takes 150 us.

    Args:
        like: has the shape.
        seeds: a `keras.random.SeedGenerator`, which goes on.
    """
    return _drawn(like, keras.ops.cast(seeds.next(), "int32"))


# TensorFlow has Threefry by XLA alone, also where what is around it is no XLA program.
@functools.partial(tf.function, jit_compile=True, autograph=False)
def _drawn(like: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform(tf.shape(like), seed, alg="threefry")


@keras.saving.register_keras_serializable(package="bnpipe")
class Dropout(keras.layers.Dropout):
    """Keras' dropout of single inputs, without a `noise_shape`, by the numbers of `draw`."""

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """In training each input is 0 with probability `rate`, or else 1 / (1 - rate) as large."""
        if not training:
            return inputs
        kept = draw(inputs, self.seed_generator) >= self.rate
        return tf.where(kept, inputs / (1 - self.rate), tf.zeros_like(inputs))


def build(
    features: int,
    classes: int,
    params: Params,
    batch_norm: Callable[..., keras.layers.Layer] = BatchNorm,
    first: keras.layers.Layer | None = None,
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
        first: a layer that the inputs go through, if any.

    Returns:
        A model float[N, features] -> logits float[N, classes], with named layers.
    """
    inputs = x = keras.Input((features,), name="features", dtype="float32")
    if first is not None:
        x = first(x)
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
            x = Dropout(
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
                    weight.assign(initializer(index, params)(weight.shape, weight.dtype))
                else:
                    weight.assign(keras.ops.full(weight.shape, _BEGIN.get(weight.name, 0.0)))
            if (generator := getattr(layer, "seed_generator", None)) is not None:
                generator.state.assign([_seed(params, index, "dropout"), 0])


def initializer(index: int, params: Params) -> keras.initializers.Initializer:
    """What draws the kernel of a Dense layer: `hidden_<index>`, or the logits' with 0."""
    return keras.initializers.GlorotUniform(seed=_seed(params, index, "dense"))


def _dense(units: int, name: str, index: int, params: Params) -> keras.layers.Layer:
    kernel = initializer(index, params)
    return keras.layers.Dense(units, kernel_initializer=kernel, name=name, dtype=params.dtype)


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
