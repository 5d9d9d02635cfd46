"""The arms of a study: networks that differ in one thing, and the layers that make some of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from bnpipe.components.network import network
from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.examples import InMemory
from bnpipe.components.network.params import Params
from bnpipe.components.network.precise_statistics import estimate_statistics

# Santurkar et al. 2018, https://arxiv.org/abs/1805.11604, appendix: bounds of a unit's mean and
# scale of noise, which are drawn anew for every batch, and the spread of the noise around them.
MEAN, SCALE, SPREAD = 0.5, 1.25, 0.1


@keras.saving.register_keras_serializable(package="bnpipe.study")
class NoisyNorm(BatchNorm):
    """Batch normalisation, then noise with another mean and scale for every unit and batch.

    At inference there is none. If a stable distribution of layer inputs were what helps, this
    should not train well.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(0)  # `network.restart` seeds it

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """See `BatchNorm`."""
        y = super().call(inputs, training=training, mask=mask)
        if not training:
            return y
        draw, units = functools.partial(network.draw, seeds=self.seed_generator), y[:1]
        mean = MEAN * (2 * draw(units) - 1) + SPREAD * (2 * draw(y) - 1)
        scale = 1 + (SCALE - 1) * draw(units) + SPREAD * (2 * draw(y) - 1)
        return scale * y + mean


@keras.saving.register_keras_serializable(package="bnpipe.study")
class MovingNorm(BatchNorm):
    """Normalises by the moving statistics in training too: no noise from who is in the batch.

    The gradient is that of batch normalisation, times what the statistics differ by (Batch
    Renormalization without its bounds, https://arxiv.org/abs/1702.03275); without any gradient by
    the statistics, weights would grow without an effect on the outputs.
    """

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """See `BatchNorm`."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        mean, variance, count = self._moments(inputs, mask)
        self._move(self.moving_mean, mean, count)
        self._move(self.moving_variance, variance, count)
        moving = ops.rsqrt(self.moving_variance + self.epsilon)
        inverse = ops.rsqrt(variance + self.epsilon)
        factor = ops.stop_gradient(moving / inverse)
        shift = ops.stop_gradient((mean - self.moving_mean) * moving)
        return ((inputs - mean) * inverse * factor + shift) * self.gamma + self.beta


@keras.saving.register_keras_serializable(package="bnpipe.study")
class FixedNorm(BatchNorm):
    """Normalises by what the statistics were before training: an affine map, with gamma and beta.

    What is left of batch normalisation is the scale that it gives to the first steps.
    """

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """See `BatchNorm`."""
        return super().call(inputs, training=False, mask=mask)


@keras.saving.register_keras_serializable(package="bnpipe.study")
class GhostNorm(BatchNorm):
    """Normalises every `group` examples of a batch by their own statistics (Hoffer et al. 2017).

    With training=True on images to be classified it is also the article's own layer, which knows
    no statistics but those of the batch.
    """

    def __init__(self, group: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "group": self.group}

    def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
        """See `BatchNorm`; the batch is a multiple of the group."""
        if not training:
            return super().call(inputs, training=False, mask=mask)
        x = ops.reshape(inputs, (-1, self.group, inputs.shape[-1]))
        mean = ops.mean(x, 1, keepdims=True)
        variance = ops.mean(ops.square(x - ops.stop_gradient(mean)), 1, keepdims=True)
        self._move(self.moving_mean, ops.mean(mean, (0, 1)), 1)
        self._move(self.moving_variance, ops.mean(variance, (0, 1)), 1)
        y = (x - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma + self.beta
        return ops.reshape(y, ops.shape(inputs))


@dataclass(frozen=True)
class Arm:
    """What sets an arm apart.

    Attributes:
        layer: the normalisation; None for the network's own kinds.
        normalization: the kind, where there is no `layer`.
        dropout: as in the network's parameters.
        estimated: the statistics of the normalisation begin with those of training images.
        standardized: every input has mean 0 and variance 1 over the training images.
        he: initial weights have the variance 2 / fan-in (He et al. 2015), from the same draws.
    """

    layer: Callable[..., keras.layers.Layer] | None = None
    normalization: str = "none"
    dropout: float = 0.0
    estimated: bool = False
    standardized: bool = False
    he: bool = False

    def params(self, depth: int, seed: int) -> Params:
        """The parameters of its network."""
        kind: Any = self.normalization if self.layer is None else "custom_batch"
        units = Params().hidden_units[:1] * depth
        return Params(normalization=kind, hidden_units=units, dropout=self.dropout, seed=seed)

    def build(
        self,
        features: int,
        classes: int,
        depth: int,
        images: npt.NDArray[np.float32] | None = None,
    ) -> keras.Model:
        """Its network; `images` are those that inputs are standardised over."""
        first = standardization(images) if self.standardized and images is not None else None
        params = self.params(depth, 0)
        return network.build(features, classes, params, self.layer or BatchNorm, first)

    def restart(
        self,
        model: keras.Model,
        depth: int,
        seed: int,
        sample: InMemory,
        live: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Gives its network the values that a training begins with.

        Args:
            model: of `build`.
            depth: its hidden layers.
            seed: of the training.
            sample: the images that statistics are estimated from.
            live: the features that the images have, of those that there are, bool[D]; None: all.
        """
        params = self.params(depth, seed)
        network.restart(model, params)
        if live is not None:
            kernel = model.get_layer("hidden_1").kernel
            drawn = network.initializer(1, params)((len(live), kernel.shape[1]), kernel.dtype)
            kernel.assign(ops.convert_to_numpy(drawn)[live])
        if self.he:
            for layer in model.layers:
                if isinstance(layer, keras.layers.Dense):
                    fan_in, fan_out = layer.kernel.shape
                    if live is not None and layer.name == "hidden_1":
                        fan_in = len(live)
                    layer.kernel.assign(layer.kernel * ((fan_in + fan_out) / fan_in) ** 0.5)
        if self.estimated:
            estimate_statistics(model, sample)


def _ghost(group: int) -> Arm:
    return Arm(functools.partial(GhostNorm, group))


ARMS = {
    "none": Arm(),
    "batch": Arm(BatchNorm),
    "standardized": Arm(standardized=True),
    "layer": Arm(normalization="layer"),
    "noisy": Arm(NoisyNorm),
    "moving": Arm(MovingNorm, estimated=True),
    "data_init": Arm(FixedNorm, estimated=True),
    "none_dropout": Arm(dropout=0.2),
    "batch_dropout": Arm(BatchNorm, dropout=0.2),
    "he": Arm(he=True),
    **{f"ghost_{group}": _ghost(group) for group in (8, 16, 32)},
}


def standardization(images: npt.NDArray[np.float32]) -> keras.layers.Layer:
    """A layer that gives every input mean 0 and variance 1 over the images.

    The variance has the epsilon that batch normalisation adds, for pixels that never change.

    Args:
        images: float32[N, D], of which no copy is made.
    """
    mean = images.mean(0, dtype=np.float64)
    square = np.einsum("nd,nd->d", images, images, dtype=np.float64) / len(images)
    return keras.layers.Normalization(mean=mean, variance=square - mean**2 + 1e-3)


def batch_inference(features: int, classes: int, group: int) -> keras.Model:
    """The article's network at inference: called with training=True on batches of `group`."""
    return _ghost(group).build(features, classes, 2)
