"""A trained network as plain arrays, and batch normalisation folded into the Dense before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.floating]"


@dataclass(frozen=True)
class Dense:
    """y = x @ kernel + bias.

    Attributes:
        name: unique in the network; names the exported variables.
        kernel: float[inputs, units].
        bias: float[units].
    """

    name: str
    kernel: Floats
    bias: Floats


@dataclass(frozen=True)
class BatchNormalization:
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, with fixed statistics.

    Attributes:
        name: unique in the network.
        gamma, beta, mean, variance: float[units].
        epsilon: a positive number.
    """

    name: str
    gamma: Floats
    beta: Floats
    mean: Floats
    variance: Floats
    epsilon: float


@dataclass(frozen=True)
class LayerNormalization:
    """y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, with the statistics of each row.

    Attributes:
        name: unique in the network.
        gamma, beta: float[units].
        epsilon: a positive number.
    """

    name: str
    gamma: Floats
    beta: Floats
    epsilon: float


@dataclass(frozen=True)
class Relu:
    """y = max(x, 0)."""

    name: str


Layer: TypeAlias = Dense | BatchNormalization | LayerNormalization | Relu


@dataclass(frozen=True)
class Folded:
    """A network that `fold` has gone through.

    Attributes:
        layers: the network, with the same answers.
        folded: names of the normalisations that are gone.
        left: names of the batch normalisations that do not directly follow a Dense.
    """

    layers: tuple[Layer, ...]
    folded: tuple[str, ...]
    left: tuple[str, ...]


def fold(layers: Sequence[Layer]) -> Folded:
    """Folds every batch normalisation that directly follows a Dense into it.

    With s = gamma / sqrt(variance + epsilon):

        gamma * (x @ W + b - mean) / sqrt(variance + epsilon) + beta
            = x @ (W * s) + (b - mean) * s + beta

    It is computed in float64 and rounded once, so the folded network is as near to the exact
    answer as the unfolded one.
    """
    result: list[Layer] = []
    folded, left = [], []
    for layer in layers:
        if not isinstance(layer, BatchNormalization):
            result.append(layer)
        elif result and isinstance(before := result[-1], Dense):
            result[-1] = _fold(before, layer)
            folded.append(layer.name)
        else:
            result.append(layer)
            left.append(layer.name)
    return Folded(tuple(result), tuple(folded), tuple(left))


def _fold(dense: Dense, norm: BatchNormalization) -> Dense:
    gamma, beta, mean, variance, kernel, bias = (
        np.asarray(array, np.float64)
        for array in (norm.gamma, norm.beta, norm.mean, norm.variance, dense.kernel, dense.bias)
    )
    scale = gamma / np.sqrt(variance + norm.epsilon)
    dtype = dense.kernel.dtype
    return replace(
        dense,
        kernel=(kernel * scale).astype(dtype),
        bias=((bias - mean) * scale + beta).astype(dtype),
    )


@dataclass(frozen=True)
class Agreement:
    """The distance between two sets of answers.

    Attributes:
        max_difference: largest difference of a probability.
        changed: rows whose most probable class differs.
        max_changed_margin: the largest margin between the two most probable classes of such a row;
            0 if there is none.
    """

    max_difference: float
    changed: int
    max_changed_margin: float

    def joined(self, other: Agreement) -> Agreement:
        """The agreement on the rows of both; a NaN stays one."""
        return Agreement(
            float(np.maximum(self.max_difference, other.max_difference)),
            self.changed + other.changed,
            float(np.maximum(self.max_changed_margin, other.max_changed_margin)),
        )

    def within(self, tolerance: float) -> bool:
        """True if all differences, and all margins of changed classes, are below `tolerance`.

        A NaN is a difference.
        """
        return self.max_difference < tolerance and self.max_changed_margin < tolerance


def compare(expected: Floats, received: Floats) -> Agreement:
    """Compares probabilities, float[N, K] in [0, 1], with other answers to the same rows."""
    if not len(expected):
        return Agreement(0.0, 0, 0.0)
    changed = expected.argmax(axis=1) != received.argmax(axis=1)
    top = np.sort(expected, axis=1)[:, -2:]
    margins = top[:, -1] - top[:, 0] if expected.shape[1] > 1 else np.zeros(len(expected))
    return Agreement(
        max_difference=float(np.max(np.abs(expected - received))),
        changed=int(changed.sum()),
        max_changed_margin=float(np.max(margins[changed], initial=0.0)),
    )
