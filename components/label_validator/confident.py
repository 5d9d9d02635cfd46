"""Confident learning: which labels are wrong, and how many (Northcutt, Jiang and Chuang, 2021).

"Confident Learning: Estimating Uncertainty in Dataset Labels", https://arxiv.org/abs/1911.00068.
Throughout, `probabilities` is float[N, K]: answers of models that have not seen the image, and
`labels` int64[N] the given labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.floating]
FloatArray = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]


LEAST = 10
"""Images that a class needs for a threshold: the mean of fewer says nothing."""


def thresholds(probabilities: Floats, labels: Integers) -> FloatArray:
    """What is sure for a class: the mean probability of its label among its images, float64[K].

    Equation 2, and at least what chance gives: who has learned little of a class would else be sure
    of it everywhere. Infinite for a class of which hardly anybody has the label.
    """
    classes = probabilities.shape[1]
    given = probabilities[np.arange(len(labels)), labels]
    sums = np.bincount(labels, given, minlength=classes)
    counts = np.bincount(labels, minlength=classes)
    means = np.maximum(sums / np.maximum(counts, 1), 1 / classes)
    return np.where(counts >= LEAST, means, np.inf)


def confident_classes(probabilities: Floats, sure: FloatArray) -> npt.NDArray[np.int64]:
    """The most probable of the classes that reach their threshold; -1 where none does, int64[N]."""
    reached = probabilities >= sure - 1e-6
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1)


def agreed_classes(theirs: Floats, sure: FloatArray, others: Integers) -> npt.NDArray[np.int64]:
    """The confident classes of others, int64[N], where these answers are sure of the same; else -1.

    Of a class without a threshold it is not known when they are sure: there the others decide.
    """
    agrees = (confident_classes(theirs, sure) == others) | np.isinf(sure)[others]
    return np.where(agrees, others, -1)


def confident_joint(labels: Integers, confident: Integers, classes: int) -> npt.NDArray[np.int64]:
    """Number of images by given label and confident class, int64[K, K] (equation 1).

    Every class has one image at least on the diagonal, so that its share can be computed.
    """
    sure = confident >= 0
    cells = labels[sure] * classes + confident[sure]
    joint = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    return joint


def wrong_share(labels: Integers, confident: Integers, classes: int) -> float:
    """Share of wrong labels: off the diagonal of the joint, calibrated to the labels' counts.

    Equation 3: the row of a label is scaled to as many images as have it. 0 without images.
    """
    joint = confident_joint(labels, confident, classes)
    wrong = 1.0 - joint.diagonal() / joint.sum(axis=1)
    counts = np.bincount(labels, minlength=classes)
    return float(counts @ wrong / max(len(labels), 1))


def label_quality(probabilities: Floats, labels: Integers) -> Floats:
    """From 0, surely wrong, to 1, surely right, float[N]: the normalised margin.

    Half of 1 + the label's probability - the largest of the others.
    """
    rows = np.arange(len(labels))
    others = probabilities.copy()
    given = others[rows, labels]
    others[rows, labels] = -1.0
    return np.asarray((1.0 + given - others.max(axis=1)) / 2.0)


def bounds(share: npt.ArrayLike, images: npt.ArrayLike, level: float) -> tuple[Any, Any]:
    """Clopper and Pearson's bounds of a share, each at error `level`.

    A calibrated share is no count; as many successes as it makes of the images stand in for one.
    """
    n = np.asarray(images, np.float64)
    k = np.asarray(share) * n
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1e-9), n - k + 1.0, level), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1.0, np.maximum(n - k, 1e-9), 1.0 - level), 1.0)
    return low, high
