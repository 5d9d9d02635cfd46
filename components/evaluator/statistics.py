"""The statistics of the gate: intervals, tests and calibration, on counts and arrays.

Everything is vectorised over leading axes, so that a simulation of a thousand evaluations costs
no more code than one evaluation: counts are integers [...] that broadcast, results float64[...].
Nothing here knows of models, rules or files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Counts = npt.ArrayLike
FloatArray = npt.NDArray[np.float64]

CALIBRATION_BINS = 15
"""Number of equal-width confidence bins, as Guo et al. 2017 (arXiv 1706.04599) use."""

_CHUNK_CELLS, _CHUNKS = 2_000_000, 8
_BLOCK_ROWS = 16_384


class Interval(NamedTuple):
    """A closed interval; `low` and `high` may be arrays."""

    low: FloatArray
    high: FloatArray


def clopper_pearson(successes: Counts, trials: Counts, confidence: float) -> Interval:
    """The exact two-sided interval of a proportion, float64[...] (Clopper and Pearson, 1934).

    Each side is a one-sided bound at confidence `(1 + confidence) / 2`. No trials at all give
    (0, 1): nothing is known.
    """
    k = np.asarray(successes, dtype=np.float64)
    n = np.asarray(trials, dtype=np.float64)
    tail = (1.0 - confidence) / 2.0
    # The Beta quantile is not defined at the ends, where the bound is known.
    low = np.where(k > 0, special.betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
    high = np.where(k < n, special.betaincinv(k + 1, np.maximum(n - k, 1), 1.0 - tail), 1.0)
    return Interval(low, high)


def lower_bound(successes: Counts, trials: Counts, level: float) -> FloatArray:
    """The one-sided Clopper-Pearson lower bound, float64[...], at confidence `1 - level`."""
    return clopper_pearson(successes, trials, 1.0 - 2.0 * level).low


def mcnemar_worse(only_candidate: Counts, only_reference: Counts) -> FloatArray:
    """One-sided exact McNemar p-value for "the candidate is worse than the reference".

    Of the images on which exactly one of the two is right, the candidate would be the right one
    half of the time were they equally good: p = P[Binomial(b + c, 1/2) <= b] (McNemar, 1947).

    Args:
        only_candidate: images that only the candidate gets right.
        only_reference: images that only the reference gets right.
    """
    b = np.asarray(only_candidate, dtype=np.int64)
    c = np.asarray(only_reference, dtype=np.int64)
    return np.asarray(stats.binom.cdf(b, b + c, 0.5), dtype=np.float64)


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's adjusted p-values (1979), float64[n]: reject where one is at most the level."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(p.size, 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


def paired_bootstrap(
    only_candidate: Counts,
    only_reference: Counts,
    images: Counts,
    resamples: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Resampled differences of two accuracies on the same images, candidate minus reference.

    Drawing n images with replacement touches the difference only through how many of them only
    one model gets right, and those two counts are multinomial. So the resample is drawn as counts:
    the same distribution as indexing n images, at the cost of two binomial draws.

    Returns:
        float64[resamples, ...], with the arguments' common shape.
    """
    b, c, n = np.broadcast_arrays(only_candidate, only_reference, images)
    safe_n = np.maximum(n, 1)
    drawn_b = rng.binomial(n, b / safe_n, size=(resamples, *n.shape))
    # Given b of n, the others are binomial among the rest, with what is left of the probability.
    rest = np.where(n > b, c / np.maximum(n - b, 1), 0.0)
    drawn_c = rng.binomial(n - drawn_b, rest)
    return np.asarray((drawn_b - drawn_c) / safe_n, dtype=np.float64)


def weighted_sums(
    values: Callable[[slice], FloatArray], n: int, resamples: int, rng: np.random.Generator
) -> FloatArray:
    """Column sums of `values` over `resamples` bootstrap samples of its rows.

    Any statistic of column means comes from these sums. Rows of a resample are drawn with
    replacement; all columns share the draw, which keeps differences between columns paired.

    Args:
        values: gives some rows of float64[n, k]; all of them are never asked for at once.
        n: how many rows there are.
        resamples: how many bootstrap samples to draw.
        rng: draws them.

    Returns:
        float64[resamples, k].
    """
    sums = np.zeros((resamples, values(slice(0)).shape[1]))
    step = max(1, _CHUNK_CELLS // max(n, 1))
    # The rows are made anew for every group of chunks, whose weights need few bytes.
    for first in range(0, resamples, _CHUNKS * step):
        last = min(first + _CHUNKS * step, resamples)
        chunks = range(first, last, step)
        weights = np.concatenate([_weights(min(step, last - i), n, rng) for i in chunks])
        for block in row_blocks(n):
            rows, some = values(block), max(1, _CHUNK_CELLS // (block.stop - block.start))
            for i in range(0, len(weights), some):
                part = weights[i : i + some, block].astype(np.float64)
                sums[first + i : first + i + len(part)] += part @ rows
    return sums


def _weights(count: int, n: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """How often each of n rows is in each of some bootstrap samples, [count, n]."""
    drawn = rng.integers(0, n, size=(count, n))
    drawn += np.arange(count)[:, None] * n
    counts = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
    return counts.astype(np.uint8)  # 256 times has a probability below 1e-500


def row_blocks(n: int) -> list[slice]:
    """All of n rows in blocks, so that memory does not grow with them."""
    return [slice(start, min(start + _BLOCK_ROWS, n)) for start in range(0, n, _BLOCK_ROWS)]


def calibration_bins(confidence: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """The equal-width bin of each confidence in [0, 1], int64: bin b is (b/15, (b + 1)/15]."""
    bins = np.ceil(np.asarray(confidence) * CALIBRATION_BINS).astype(np.int64) - 1
    return np.clip(bins, 0, CALIBRATION_BINS - 1)


def bin_gaps(confidence: FloatArray, correct: npt.NDArray[np.bool_]) -> FloatArray:
    """One column per bin, holding `correct - confidence` where the row is in that bin.

    The absolute column sums, added up and divided by the number of rows, are the expected
    calibration error; so `weighted_sums` of this matrix gives its bootstrap.

    Args:
        confidence: float64[n] in [0, 1].
        correct: bool[n].

    Returns:
        float64[n, CALIBRATION_BINS].
    """
    gaps = np.zeros((confidence.size, CALIBRATION_BINS))
    gaps[np.arange(confidence.size), calibration_bins(confidence)] = correct - confidence
    return gaps


def percentile_interval(resampled: FloatArray, confidence: float) -> Interval:
    """The two-sided percentile interval of float64[R, ...] over the first axis (Efron, 1979)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return Interval(low, high)


def area_under_roc(scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve as the Mann-Whitney statistic, ties counted half.

    NaN when one of the two classes is empty.

    Args:
        scores: of the positive class, float[n].
        positive: bool[n], true for the images of that class.
    """
    positives = int(positive.sum())
    negatives = positive.size - positives
    if not positives or not negatives:
        return float("nan")
    ranks = stats.rankdata(scores)
    wins = ranks[positive].sum() - positives * (positives + 1) / 2.0
    return float(wins / (positives * negatives))
