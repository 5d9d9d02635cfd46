"""Drift that the model sees: its answers to a sample against those to data like its training's.

Black-box shift detection on the softmax output by univariate Kolmogorov-Smirnov tests, Bonferroni
over them all, which does best in Rabanser, Günnemann & Lipton 2019, "Failing Loudly",
https://arxiv.org/abs/1810.11953. To the K probabilities comes the largest of each row: it sees what
makes all classes doubtful by a little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.0005
"""Of the p-value below: even with some windows a day, requests and spans, there is less than one
false alarm a year (0.27 % a day; measured by `tests/benchmarks/bench_answers.py`)."""

MOST = 2000
"""So many images are asked for: with more, differences would be drift that do not matter."""

Probabilities = npt.NDArray[np.float32]


def spread(images: int) -> npt.NDArray[np.int64]:
    """The rows to ask for, `MOST` at most, evenly: files are often in the order of classes."""
    return np.linspace(0, images - 1, min(MOST, images)).astype(np.int64)


@dataclass(frozen=True)
class AnswerDrift:
    """A sample of answers against the reference.

    Attributes:
        p_value: of all tests together.
        drifted: whether it is below the level.
        sentence: what differs most, for people.
    """

    p_value: float
    drifted: bool
    sentence: str


def answer_drift(
    reference: Probabilities, sample: Probabilities, *, level: float = LEVEL
) -> AnswerDrift:
    """Whether the sample's answers come from the distribution of the reference's.

    Saturated softmax outputs are equal for many rows. The distance between the two distribution
    functions is exact with such ties, and its p-value is then too large, never too small (Noether
    1963), so they cost power and cause no alarms.

    Args:
        reference: a model's answers float32[N, K] to data that it was judged on.
        sample: the same model's answers float32[n, K] to other data.
        level: the largest p-value that is drift.

    Raises:
        ValueError: the shapes do not match, or there are no rows, or numbers that are not finite.
    """
    if reference.shape[1:] != sample.shape[1:] or sample.ndim != 2 or 0 in sample.shape:
        raise ValueError(f"expected answers [N, K] and [n, K]: {reference.shape}, {sample.shape}")
    before, now = (np.column_stack([p, p.max(axis=1)]) for p in (reference, sample))
    if not (np.isfinite(before).all() and np.isfinite(now).all()):
        raise ValueError("expected finite probabilities")
    tests = stats.ks_2samp(now, before, method="asymp")
    worst = int(np.argmax(tests.statistic))
    p_value = float(min(1.0, tests.pvalue.min() * before.shape[1]))
    what = "confidence" if worst == sample.shape[1] else f"probability of class {worst}"
    sentence = (
        f"{what} differs most: on average {now[:, worst].mean():.3f} in {len(now)} answers, "
        f"{before[:, worst].mean():.3f} in the {len(before)} that it is held against "
        f"(distance {tests.statistic[worst]:.3f}, p {p_value:.2g})"
    )
    return AnswerDrift(p_value, p_value < level, sentence)
