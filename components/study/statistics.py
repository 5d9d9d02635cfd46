"""Paired tests over seeds, vectorised over leading axes: a study under its null costs no more code.

A `Paired` holds one number per seed for two arms. Its `gain` says by how much the first is better,
whatever is measured: points of accuracy, or the log of a ratio of costs.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from bnpipe.components.study.plan import MIN_PAIRS

FloatArray = npt.NDArray[np.float64]
Scale = Literal["points", "ratio", "steps", "rates"]

_EXACT_PAIRS = 12
"""Up to so many, all sign flips are counted; beyond, their normal limit is as good."""


class Effect(NamedTuple):
    """An effect with its 95 % interval: points of accuracy, or a ratio; an open end is infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two arms, paired by seed.

    Attributes:
        x: float64[..., n], of the arm that is asked about.
        y: of the arm that it is compared with, same shape.
        scale: `points`: shares, more is better, mean difference, t-test. `ratio`: costs, less is
            better, mean log ratio, t-test. `steps`: costs that may be infinite (it never got
            there, or not within `cap`), median ratio, rank test. `rates`: costs of a coarse grid,
            median ratio, exact sign flips.
        margin: a gain of less than this is none that matters.
        seeds: int[n].
        cap: the last step of the trainings, for `steps`.
    """

    x: FloatArray
    y: FloatArray
    scale: Scale
    margin: float
    seeds: npt.NDArray[np.int64]
    cap: float = np.inf

    @property
    def pairs(self) -> int:
        """How many there are."""
        return self.x.shape[-1]

    @cached_property
    def gain(self) -> FloatArray:
        """By how much `x` is better, float64[..., n]; NaN where neither ever got there."""
        if self.scale == "points":
            return self.x - self.y
        gain = np.log(np.minimum(self.y, self.cap) / np.minimum(self.x, self.cap))
        return np.where(np.isinf(self.x) & np.isinf(self.y), np.nan, gain)

    @cached_property
    def _signed(self) -> FloatArray:
        """What is tested for a centre of zero.

        For steps, differences of ranks among both arms (O'Brien and Fleming 1987, "A paired
        Prentice-Wilcoxon test for censored paired data"): all trainings end with the same step, so
        those that never got there share the last ranks, and Prentice's scores are mid-ranks.
        """
        if self.scale != "steps":
            return np.asarray(np.nan_to_num(self.gain))
        ranks = stats.rankdata(np.concatenate([self.x, self.y], axis=-1), axis=-1)
        return np.asarray(ranks[..., self.pairs :] - ranks[..., : self.pairs])

    @cached_property
    def sign(self) -> FloatArray:
        """1 where `x` is better, -1 where it is worse, float64[...]."""
        return np.asarray(np.sign(self._signed.sum(axis=-1)))

    @cached_property
    def p_difference(self) -> FloatArray:
        """Two-sided p-value of "the arms do not differ", float64[...]."""
        if self.pairs < MIN_PAIRS:
            return np.ones(self.x.shape[:-1])
        if self.scale in ("points", "ratio"):
            return _t_test(self.gain, 0.0, "two-sided")
        return _sign_flips(self._signed)

    @cached_property
    def p_same(self) -> FloatArray:
        """P-value of "they differ by the margin or more", by two one-sided tests, float64[...].

        By t (Schuirmann 1987), or of a median by the signs of what exceeds either margin; a pair
        of which one never got there says nothing for sameness on that side.
        """
        other = replace(self, x=self.y, y=self.x)
        return np.maximum(self.p_no_worse, other.p_no_worse)

    @cached_property
    def p_no_worse(self) -> FloatArray:
        """P-value of "`x` is worse by the margin or more", as for `p_same`, float64[...]."""
        if self.pairs < MIN_PAIRS:
            return np.ones(self.x.shape[:-1])
        if self.scale in ("points", "ratio"):
            return _t_test(self.gain, -self.margin, "greater")
        inside = (self._at_least > -self.margin).sum(-1)
        return np.asarray(stats.binom.sf(inside - 1, self.pairs, 0.5))

    @property
    def _at_least(self) -> FloatArray:
        """The gain where it is known, its lower bound where `y` never got there, or -inf."""
        return np.where(np.isinf(self.x), -np.inf, self.gain)

    @property
    def p_better(self) -> FloatArray:
        """`p_difference` where `x` is better, else 1; `p_worse` likewise."""
        return np.where(self.sign > 0, self.p_difference, 1.0)

    @property
    def p_worse(self) -> FloatArray:
        """`p_difference` where `x` is worse, else 1."""
        return np.where(self.sign < 0, self.p_difference, 1.0)

    def effect(self) -> Effect:
        """The effect and its interval: of a mean by t, of a median by its order statistics."""
        gain = self.gain[np.isfinite(self.gain)]
        if gain.size < max(2, self.pairs / 2):  # half of them never got there, in neither arm
            return Effect(np.nan, np.nan, np.nan)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of values that are all the same
            if self.scale in ("points", "ratio"):
                value, found = gain.mean(), stats.ttest_1samp(gain, 0.0).confidence_interval()
                low, high = (value if gain.std() == 0 else b for b in (found.low, found.high))
            else:
                # Who never got there would have later: what that makes of a gain is open.
                at_most = np.where(np.isinf(self.y), np.inf, self.gain)
                value, low, high = (
                    np.median(gain),
                    stats.quantile_test(self._at_least).confidence_interval().low,
                    stats.quantile_test(at_most).confidence_interval().high,
                )
        scaled = (value, low, high) if self.scale == "points" else np.exp([value, low, high])
        return Effect(*map(float, scaled))

    def swapped(self, flips: npt.NDArray[np.bool_]) -> Paired:
        """The same pairs with the arms' labels exchanged where `flips` (bool[..., seeds]) says."""
        chosen = flips[..., self.seeds]
        x, y = np.where(chosen, self.y, self.x), np.where(chosen, self.x, self.y)
        return replace(self, x=x, y=y)


def _t_test(values: FloatArray, centre: float, alternative: str) -> FloatArray:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # of values that are all the same
        test = stats.ttest_1samp(values, centre, axis=-1, alternative=alternative)
    return np.asarray(np.nan_to_num(test.pvalue, nan=1.0))


def _sign_flips(values: FloatArray) -> FloatArray:
    """Two-sided p-value of a centre of zero under random signs of the values, float64[...]."""
    n = values.shape[-1]
    observed = np.abs(values.sum(axis=-1))
    if n <= _EXACT_PAIRS:
        signs = np.array([(1, *rest) for rest in itertools.product((1, -1), repeat=n - 1)])
        sums = np.abs(values @ signs.T)
        return np.asarray((sums >= observed[..., None] - 1e-9).mean(axis=-1))
    spread = np.maximum(np.sqrt((values**2).sum(axis=-1)), 1e-300)
    least = 2.0 ** (1 - np.count_nonzero(values, axis=-1))  # when all that are not 0 agree
    return np.minimum(np.maximum(2 * stats.norm.sf(observed / spread), least), 1.0)


def holm(p_values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Holm's adjusted p-values (1979) over the first axis, and what each was multiplied by."""
    order = np.argsort(p_values, axis=0, kind="stable")
    factors = len(p_values) - np.argsort(order, axis=0, kind="stable").astype(np.float64)
    steps = np.take_along_axis(p_values * factors, order, axis=0)
    running = np.minimum(np.maximum.accumulate(steps, axis=0), 1.0)
    return np.take_along_axis(running, np.argsort(order, axis=0), axis=0), factors
