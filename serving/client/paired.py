"""Paired differences that may be looked at after every pair: tests and bounds by betting.

A difference is -1, 0 or 1. Somebody who doubts that its mean is at most `mean` bets a share of his
money on every next one being larger; if the mean is that small, no strategy multiplies it by more
than 1/level with a probability above `level`, however often one looks (Ville's inequality). The
stake is a mixture over a grid. Waudby-Smith and Ramdas, "Estimating means of bounded random
variables by betting", Journal of the Royal Statistical Society B 86 (2024), 1-27; Howard, Ramdas,
McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of
Statistics 49 (2021), 1055-1080.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_STAKES = np.geomspace(0.03, 0.98, 24)


def log_wealth(up: Any, same: Any, down: Any, mean: float = 0.0) -> npt.NDArray[np.float64]:
    """The logarithm of what betting against a mean difference of at most `mean` has made of 1.

    Args:
        up: how many differences were 1; an array for many at once, like what follows.
        same: how many were 0.
        down: how many were -1.
        mean: above -1 and below 1.
    """
    stakes = _STAKES / (1 + mean)
    counts = [np.asarray(count)[..., np.newaxis] for count in (up, same, down)]
    gains = [np.log1p(stakes * (difference - mean)) for difference in (1, 0, -1)]
    by_stake = sum(count * gain for count, gain in zip(counts, gains, strict=True))
    best = np.max(by_stake, axis=-1, keepdims=True)  # which alone would overflow
    mixed = np.log(np.mean(np.exp(by_stake - best), axis=-1))
    return np.asarray(mixed + best[..., 0])


@dataclass
class Paired:
    """How often the canary did better than the stable version, the same, or worse."""

    better: int = 0
    same: int = 0
    worse: int = 0

    def add(self, difference: int) -> None:
        """One more pair; `difference` is positive where the canary did better."""
        self.better += difference > 0
        self.same += difference == 0
        self.worse += difference < 0

    @property
    def pairs(self) -> int:
        """The number of pairs."""
        return self.better + self.same + self.worse

    @property
    def mean(self) -> float:
        """The mean difference; 0 without pairs."""
        return (self.better - self.worse) / max(self.pairs, 1)

    def is_worse(self, level: float) -> bool:
        """True if the true mean is shown to be negative."""
        return bool(log_wealth(self.worse, self.same, self.better) >= -math.log(level))

    def is_above(self, bound: float, level: float) -> bool:
        """True if the true mean is shown to be above a bound."""
        return bool(log_wealth(self.better, self.same, self.worse, bound) >= -math.log(level))

    def band(self, level: float) -> tuple[float, float]:
        """Bounds of the true mean; each is wrong at any time with a probability of `level`."""
        counts = self.better, self.same, self.worse
        return _lower(*counts, level), -_lower(*counts[::-1], level)


def _lower(up: int, same: int, down: int, level: float) -> float:
    from scipy.optimize import brentq

    def excess(mean: float) -> float:
        return float(log_wealth(up, same, down, mean)) + math.log(level)

    ends = -1 + 1e-9, 1 - 1e-9
    return (
        float(brentq(excess, *ends, xtol=1e-6)) if excess(ends[0]) > 0 > excess(ends[1]) else -1.0
    )
