"""Temperature scaling: one number that makes a network's confidence as large as its accuracy.

Guo, Pleiss, Sun & Weinberger 2017, "On Calibration of Modern Neural Networks",
https://arxiv.org/abs/1706.04599. It changes no answer, only how sure the network is of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

_LARGEST = 20.0
"""Of the temperature or its inverse: where no example is wrong, 0 would be the best one."""

Floats = npt.NDArray[np.float64]


def fit_temperature(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float | None:
    """The temperature with the least mean cross-entropy; None without examples.

    Args:
        logits: float[N, K].
        labels: int[N], the true classes.
    """
    if not len(labels):
        return None
    exact, rows = np.asarray(logits, np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        answers = special.log_softmax(exact * np.exp(-log_temperature), axis=1)
        return -float(answers[rows, labels].mean())

    # It is convex in the inverse of the temperature, so it has one minimum on any scale.
    bound = float(np.log(_LARGEST))
    best = optimize.minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(best.x))


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
