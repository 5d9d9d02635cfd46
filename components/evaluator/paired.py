"""Two models on the same images: bounds of their difference, tests for a loss, and their power.

Everything follows from three counts: the images that only the candidate gets right, those that
only the reference gets right, and all images.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

from bnpipe.components.evaluator.statistics import (
    FloatArray,
    Interval,
    mcnemar_worse,
    percentile_interval,
)


def score_lower_bound(only_candidate: int, only_reference: int, images: int, level: float) -> float:
    """One-sided lower bound of a paired difference of accuracies, by Tango's score (1998).

    Unlike the bootstrap it keeps a width when hardly any image sets the two models apart.

    Args:
        only_candidate: images that only the candidate gets right.
        only_reference: images that only the reference gets right.
        images: all images, at least one.
        level: error level of the bound.
    """
    b, c, n = only_candidate, only_reference, images
    critical = float(special.ndtri(1 - level))

    def excess(difference: float) -> float:
        """The score statistic at a hypothetical difference, minus the critical value."""
        share = _reference_share(b, c, n, difference)
        variance = max(n * (2 * share + difference * (1 - difference)), 1e-12)
        return (b - c - n * difference) / math.sqrt(variance) - critical

    lowest = -1 + 1e-9
    observed = (b - c) / n
    if observed <= lowest or excess(lowest) <= 0:
        return -1.0
    return float(optimize.brentq(excess, lowest, observed, xtol=1e-12))


def _reference_share(b: int, c: int, n: int, difference: float) -> float:
    """The likeliest share of images that only the reference gets right, given the difference.

    The solution of the likelihood equation of the constrained trinomial (Tango, 1998).
    """
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(linear**2 - 8 * n * constant, 0.0))
    return (root - linear) / (4 * n)


def difference_interval(
    only_candidate: int,
    only_reference: int,
    images: int,
    confidence: float,
    resampled: FloatArray,
) -> Interval:
    """The two-sided interval of a paired difference: as wide as bootstrap and score bound ask.

    The bootstrap alone shrinks to a point when no image sets the two models apart, as on a small
    slice on which both are always right.

    Args:
        only_candidate: images that only the candidate gets right.
        only_reference: images that only the reference gets right.
        images: all images, at least one.
        confidence: of the interval.
        resampled: float64[R] that `paired_bootstrap` drew for these counts.
    """
    tail = (1.0 - confidence) / 2.0
    low, high = percentile_interval(resampled, confidence)
    lowest = score_lower_bound(only_candidate, only_reference, images, tail)
    highest = -score_lower_bound(only_reference, only_candidate, images, tail)
    return Interval(np.minimum(low, lowest), np.maximum(high, highest))


def worse_than_margin(
    only_candidate: int, only_reference: int, images: int, margin: float
) -> float:
    """One-sided p-value for "the candidate's accuracy is lower by more than `margin`".

    For no margin that is McNemar's exact test. Else it is the exact probability, at a true loss of
    `margin`, of losing as much as observed or more. The share of images that only the candidate
    gets right is not fixed by that hypothesis; its constrained estimate stands in for it (Storer
    and Kim, 1990). Enumerating all outcomes for 60 to 1000 images, margins of 2 and 3 points and
    levels of 0.01 to 0.0002 found no true error above the level. A loss within the margin has
    p-value 1.

    Args:
        only_candidate: images that only the candidate gets right.
        only_reference: images that only the reference gets right.
        images: all images.
        margin: a share of the images, from 0 to 1.
    """
    b, c, n = only_candidate, only_reference, images
    lost = c - b
    if lost <= margin * n:
        return 1.0
    if margin == 0:
        return float(mcnemar_worse(b, c))
    share = max(_reference_share(b, c, n, -margin) - margin, 0.0)
    most = int(stats.binom.ppf(1 - 1e-13, n, share))
    wins = np.arange(most + 1)
    # Given the images that only the candidate gets right, the others are binomial among the rest.
    among_rest = min((share + margin) / (1 - share), 1.0)
    tails = stats.binom.sf(lost + wins - 1, n - wins, among_rest)
    return min(1.0, float(stats.binom.pmf(wins, n, share) @ tails))


def mcnemar_power(loss: float, discordance: float, images: int, level: float) -> float:
    """Probability that McNemar's exact one-sided test finds a true loss of accuracy.

    Exact: the number of discordant images is binomial, and given it so is their split.

    Args:
        loss: by how much the candidate's true accuracy is lower.
        discordance: true share of images on which exactly one of the two is right, at least `loss`.
        images: all images.
        level: error level of the test.
    """
    if discordance <= 0:
        return 0.0
    counts, chances, most_wins = _discordant_counts(discordance, images, level)
    wins = stats.binom.cdf(most_wins, counts, (discordance - loss) / (2 * discordance))
    return float(chances @ wins)


@lru_cache(maxsize=128)
def _discordant_counts(
    discordance: float, images: int, level: float
) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
    """The numbers of discordant images that can occur.

    Returns:
        The counts, their probabilities, and the most wins of the candidate among so many at which
        McNemar's test calls it worse (-1: not even without a win).
    """
    low, high = stats.binom.ppf([1e-10, 1 - 1e-10], images, discordance)
    counts = np.arange(int(low), int(high) + 1)
    most_wins = stats.binom.ppf(level, counts, 0.5)
    most_wins -= stats.binom.cdf(most_wins, counts, 0.5) > level
    return counts, stats.binom.pmf(counts, images, discordance), most_wins


@lru_cache(maxsize=1024)
def smallest_detectable(discordance: float, images: int, level: float, power: float) -> float:
    """The smallest true loss of accuracy that McNemar's exact test finds with `power`.

    Args:
        discordance: share of images on which exactly one of the two models is right; where it is
            smaller than the loss, the loss itself is all that sets them apart.
        images: all images.
        level: error level of the one-sided test.
        power: at which the loss must be found.

    Returns:
        A share of the images; NaN when so few images show no loss at all.
    """
    if mcnemar_power(1.0, 1.0, images, level) < power:
        return float("nan")
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        if mcnemar_power(middle, max(discordance, middle), images, level) < power:
            low = middle
        else:
            high = middle
    return high
