"""Statistics of the whole train split in the place of the moving averages.

The averages of batch normalisation lag behind the weights and carry the noise of the last batches.
Estimating them again under fixed weights ("PreciseBN", Wu & Johnson 2021,
https://arxiv.org/abs/2105.07576, section 3) removes both.
"""

from __future__ import annotations

import keras
import numpy as np
import numpy.typing as npt

from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.network.examples import Split

Floats = npt.NDArray[np.float64]


def estimate_statistics(model: keras.Model, train: Split) -> None:
    """Sets the moving mean and variance of every batch normalisation from the whole train split.

    The layers are done in order, so each sees the inputs that it will see at inference. Sums are
    float64, the variance is that of the population (no Bessel correction, as in training).
    """
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization | BatchNorm):
            continue
        before = keras.Model(model.input, layer.input)
        mean = _average(before, train, 0.0, power=1)
        variance = _average(before, train, mean, power=2)
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


def _average(model: keras.Model, split: Split, center: Floats | float, power: int) -> Floats:
    """The mean of (output - center)^power over the split, for every output of the model."""
    total = np.zeros(model.output_shape[-1])
    for features, _ in split.blocks():
        outputs = model(features, training=False).numpy().astype(np.float64)
        total += ((outputs - center) ** power).sum(axis=0)
    return total / split.size
