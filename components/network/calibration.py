"""Temperature scaling: one number that makes a network's confidence as large as its accuracy.

Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks",
https://arxiv.org/abs/1706.04599. It changes no answer, only how sure the network is of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

LEAST = 100
"""With fewer examples nothing is fitted: the prior would say more than they do."""
_LARGEST = 20.0
"""Of the temperature or its inverse."""
_PRIOR = 0.5
"""Standard deviation of log T about 0 before any example was seen: 95 % of T in 0.38 to 2.7, which
says little. It weighs as much as 50 images, were 5 % of them hard (with 5,000 of MNIST, T moves by
0.15 %): it matters where hardly one is wrong, and likelihood alone would go to 0 or to infinity."""

Floats = npt.NDArray[np.float64]


class Fit(NamedTuple):
    """A temperature, and the standard error of its logarithm."""

    temperature: float
    error: float


def fit_temperature(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> Fit | None:
    """The most probable temperature by cross-entropy and prior; None with too few examples.

    Args:
        logits: float[N, K].
        labels: int[N], the true classes.
    """
    if len(labels) < LEAST:
        return None
    exact, rows = np.asarray(logits, np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        answers = special.log_softmax(exact * np.exp(-log_temperature), axis=1)
        return float(log_temperature**2 / (2 * _PRIOR**2) - answers[rows, labels].sum())

    bound = float(np.log(_LARGEST))
    best = optimize.minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    scaled = exact * np.exp(-best.x)
    answers = special.softmax(scaled, axis=1)
    mean = (answers * scaled).sum(axis=1)
    # Of every example the derivative of its loss by log T, and what its square is expected to be.
    slope = scaled[rows, labels] - mean
    curvature = (answers * (scaled - mean[:, None]) ** 2).sum() + _PRIOR**-2
    # Where the slopes vary more than a calibrated network's, they are what counts (White 1982);
    # where they vary less, no example happens to be wrong, and the curvature knows more.
    variance = max(curvature, float(slope @ slope)) / curvature**2
    return Fit(float(np.exp(best.x)), float(np.sqrt(variance)))


def at_temperature(probabilities: npt.NDArray[Any], temperature: float) -> Floats:
    """What a network answers when its logits are divided by a temperature.

    Args:
        probabilities: its softmax, float[N, K]; as far as that is rounded to 0, so are the logits.
        temperature: a positive number.

    Returns:
        float64[N, K].
    """
    least = np.finfo(np.float32).tiny
    logits = np.log(np.maximum(probabilities, least, dtype=np.float64))
    answers: Floats = special.softmax(logits / temperature, axis=1)
    return answers
