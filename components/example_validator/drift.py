"""Four distances between two samples, each with the value that chance alone makes of it.

A distance between two samples is never zero, and how far from zero it lies when nothing has
changed depends on how many there are. So every distance comes with a `noise` bound: the value that
two samples of one distribution exceed with probability `level` at most. What exceeds it differs.
Whether that difference matters is another question, answered by a tolerance: `exceeds` adds it to
the noise, so that a distance above is shown to be larger than tolerated, not only seen to be.

All functions of counts work along the last axis: counts and others are [..., K], results
float64[...]. So a thousand simulated samples are one call.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
_BISECTIONS = 40


def shares(counts: npt.ArrayLike) -> FloatArray:
    """Counts as shares of their sum, float64[..., K]; zeros where there is nothing to share."""
    counts = np.asarray(counts, np.float64)
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1.0)


def infinity_distance(counts: npt.ArrayLike, others: npt.ArrayLike) -> FloatArray:
    """Largest difference between the shares of a class (L-infinity, as TFDV compares labels)."""
    return _float(np.abs(shares(counts) - shares(others)).max(axis=-1))


def infinity_noise(counts: npt.ArrayLike, others: npt.ArrayLike, level: float) -> FloatArray:
    """The value that `infinity_distance` has by chance.

    The difference t of the shares of one class has variance p (1 - p) (1/n + 1/m), p estimated from
    both samples together. Rare classes have longer tails than a normal distribution; Bernstein's
    inequality accounts for them by t / (3 min(n, m)) more variance. The bound is the t at which the
    two-sided tails of all classes add up to `level` (the union bound), found by bisection.
    """
    counts, others = np.asarray(counts, np.float64), np.asarray(others, np.float64)
    p = shares(counts + others)
    variance = p * (1.0 - p) * _inverse_size(counts, others)[..., None]
    per_unit = 1.0 / (3.0 * _smaller(counts, others)[..., None])
    low, high = np.zeros(p.shape[:-1]), np.ones(p.shape[:-1])
    for _ in range(_BISECTIONS):
        t = (low + high)[..., None] / 2.0
        # A class that nobody has differs by nothing.
        tails = np.where(p > 0, 2.0 * special.ndtr(-t / np.sqrt(variance + t * per_unit)), 0.0)
        too_low = tails.sum(axis=-1) > level
        low, high = np.where(too_low, t[..., 0], low), np.where(too_low, high, t[..., 0])
    return _float(high)


def divergence(counts: npt.ArrayLike, others: npt.ArrayLike) -> FloatArray:
    """Jensen-Shannon divergence in bits, in [0, 1] (Lin, 1991)."""
    p, q = shares(counts), shares(others)
    middle = (p + q) / 2.0
    nats = special.rel_entr(p, middle).sum(axis=-1) + special.rel_entr(q, middle).sum(axis=-1)
    return _float(nats / (2.0 * np.log(2.0)))


def divergence_noise(counts: npt.ArrayLike, others: npt.ArrayLike, level: float) -> FloatArray:
    """The value that `divergence` has by chance.

    To second order the divergence is sum((p - q)**2 / r) / (8 ln 2), r the common shares, and that
    sum is distributed as (1/n + 1/m) chi2 with one degree of freedom less than there are classes.
    What the expansion leaves out counts where classes have few members; the factor
    1 + classes / min(n, m) covers it, as simulation shows.
    """
    counts, others = np.asarray(counts, np.float64), np.asarray(others, np.float64)
    classes = ((counts + others) > 0).sum(axis=-1)
    quantile = special.chdtri(np.maximum(classes - 1, 1), level)
    few = 1.0 + classes / _smaller(counts, others)
    return _float(_inverse_size(counts, others) * quantile * few / (8.0 * np.log(2.0)))


def ks_distance(counts: npt.ArrayLike, others: npt.ArrayLike) -> FloatArray:
    """Kolmogorov-Smirnov distance of two histograms with the same bins.

    Never more than that of the values in them, so a bound for values holds for bins too.
    """
    difference = shares(counts) - shares(others)
    return _float(np.abs(np.cumsum(difference, axis=-1)).max(axis=-1))


def ks_noise(counts: npt.ArrayLike, others: npt.ArrayLike, level: float) -> FloatArray:
    """The value that `ks_distance` has by chance: P(D > t) <= 2 exp(-2 t**2 / (1/n + 1/m)).

    The two-sample form of the Dvoretzky-Kiefer-Wolfowitz inequality (Wei and Dudley, 2012).
    """
    inverse = _inverse_size(np.asarray(counts, np.float64), np.asarray(others, np.float64))
    return _float(np.sqrt(inverse * np.log(2.0 / level) / 2.0))


class Moments(NamedTuple):
    """What is known of the values of each class.

    Attributes:
        counts: number of values of each class, [K].
        sums: their sums, [K, S].
        squares: the sums of their squares, [K, S].
    """

    counts: npt.NDArray[Any]
    sums: npt.NDArray[Any]
    squares: npt.NDArray[Any]


def class_distances(now: Moments, before: Moments, level: float) -> tuple[FloatArray, FloatArray]:
    """Distance of the means of classes from those of a reference, and what chance makes of it.

    A class k weighs h = n m / (n + m), the size that its two samples have as one. Its part is
    h d**2 / (H v): d the difference of its means, H the sum of h, v the variance within classes
    that the reference has. The distance is the root of the sum of the parts, in standard
    deviations. By chance, h d**2 has the class's own variance, so that the sum is distributed as a
    multiple of chi2, both chosen by its mean and variance (Satterthwaite, 1946). Values have longer
    tails than a normal distribution, which counts for small samples; the factor 1 + 2 / sqrt(H)
    covers it, as simulation with image statistics shows.

    Args:
        now: what is judged.
        before: the reference; some class in both has two values or more in it.
        level: the probability with which chance exceeds the noise, for each of the S statistics.

    Returns:
        The parts by class, [K, S], whose sums are squares of distances; the noise, [S].
    """
    n, m = (side.counts.astype(np.float64)[:, None] for side in (now, before))
    weights = np.where(m > 1, n * m / np.maximum(n + m, 1.0), 0.0)
    size = weights.sum(axis=0)
    means, others = (s.sums / np.maximum(k, 1.0) for s, k in ((now, n), (before, m)))
    spread = np.maximum(before.squares - before.sums * others, 0.0) / np.maximum(m - 1.0, 1.0)
    # Steps squared: values that are all the same differ by no less than they are rounded to.
    within = np.maximum((weights * spread).sum(axis=0) / size, 1.0)
    ratios = np.where(weights > 0, np.maximum(spread, 1.0) / within, 0.0)
    scale, freedom = (ratios**2).sum(axis=0) / ratios.sum(axis=0), ratios.sum(axis=0) ** 2
    chance = scale * special.chdtri(freedom / (ratios**2).sum(axis=0), level) / size
    parts = weights * (means - others) ** 2 / (size * within)
    return _float(parts), _float(np.sqrt(chance) * (1.0 + 2.0 / np.sqrt(size)))


def exceeds(noise: npt.ArrayLike, tolerance: float) -> FloatArray:
    """The bound above which a true distance is shown to be larger than `tolerance`.

    By the triangle inequality a measured distance is at most the true one plus the noise.
    """
    return _float(np.asarray(noise) + tolerance)


def exceeds_divergence(noise: npt.ArrayLike, tolerance: float) -> FloatArray:
    """`exceeds` for divergences, whose square roots are distances (Endres and Schindelin, 2003)."""
    return _float((np.sqrt(np.asarray(noise)) + np.sqrt(tolerance)) ** 2)


def outside_noise(size: int, others: int, level: float) -> int:
    """The number of `size` values that by chance lie outside the range of `others` values.

    Whatever the distribution, the ranks of exchangeable values are a random permutation, in which
    as many of the n precede the first and follow the last of the m others as precede the second:
    k or more, if at most one of the first k + 1 is another. Drawn with replacement, which makes it
    a little more likely, that has the probability s**k (s + (k + 1) (1 - s)), s = n / (n + m).
    """
    s = size / max(size + others, 1)
    return bisect_left(
        range(size), True, key=lambda k: s ** (k + 1) * (s + (k + 2) * (1.0 - s)) <= level
    )


def allowed_count(size: int, share: float, level: float) -> int:
    """The most of `size` that chance shows, with probability `level`, if this is the true share.

    The upper quantile of the binomial distribution: a tolerated share is a statement about the
    source of the data, and a small sample of a good source may hold more.
    """
    if not size or share <= 0.0:
        return 0
    if share >= 1.0:
        return size
    return max(0, math.ceil(float(special.bdtrik(1.0 - level, size, share))))


def least_count(size: int, share: float, level: float) -> int:
    """The fewest of `size` that chance shows if this is the true share: the lower quantile."""
    return size - allowed_count(size, 1.0 - share, level)


def _inverse_size(counts: FloatArray, others: FloatArray) -> FloatArray:
    """1/n + 1/m; an empty sample counts as one value, so that noise is large, not infinite."""
    n, m = (np.maximum(c.sum(axis=-1), 1.0) for c in (counts, others))
    return _float(1.0 / n + 1.0 / m)


def _smaller(counts: FloatArray, others: FloatArray) -> FloatArray:
    """The size of the smaller sample, at least 1."""
    return _float(np.maximum(np.minimum(counts.sum(axis=-1), others.sum(axis=-1)), 1.0))


def _float(value: Any) -> FloatArray:
    return np.asarray(value, np.float64)
