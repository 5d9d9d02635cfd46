"""Soaks of versions whose truth is known, many at a time, by the rules of `client.soak`."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client import soak
from bnpipe.serving.client.paired import log_wealth
from bnpipe.serving.client.soak import LEVEL, Rules

Bools = npt.NDArray[np.bool_]
DISCORDANCE = 0.0208
"""Share of MNIST's test images that one of two seeds knows and the other does not, as measured."""
_AT_ONCE = 150_000
"""Pairs, for their memory."""


@dataclass(frozen=True)
class Truth:
    """What a canary is, measured by the stable version.

    Attributes:
        loss: of accuracy; it comes on top of the discordance of two equal versions.
        slower: how many times as long it takes; latencies are log-normal.
        errors: share of requests that it fails.
        noise: standard deviation of a latency's logarithm.
    """

    loss: float = 0.0
    slower: float = 1.0
    errors: float = 0.0
    noise: float = 0.5


@dataclass(frozen=True)
class Ends:
    """The pair at which each soak was ended by a failure, and that at which it was shown to be
    as good; 0 where neither was."""

    failed: npt.NDArray[np.int64]
    shown: npt.NDArray[np.int64]

    @property
    def failures(self) -> float:
        return float(np.mean(self.failed > 0))

    @property
    def passed(self) -> Bools:
        return (self.shown > 0) & (self.failed == 0)

    def after(self, attempts: int, pairs: int) -> tuple[float, float]:
        """The shares that passed and that failed in attempts of so many pairs that go on.

        One passes at the end of the attempt in which that was shown.
        """
        end = -(-self.shown // pairs) * pairs
        passed = (self.shown > 0) & (end <= attempts * pairs)
        failed = (self.failed > 0) & (self.failed <= np.where(passed, end, attempts * pairs))
        return float(np.mean(passed & ~failed)), float(np.mean(failed))


def simulate(
    truth: Truth, soaks: int, pairs: int, seed: int = 0, rules: Rules | None = None
) -> Ends:
    """Every pair of every soak is looked at."""
    rules, rng = rules or Rules(), np.random.default_rng(seed)
    failed, first = [], []
    chunk = max(_AT_ONCE // pairs, 1)
    for start in range(0, soaks, chunk):
        size = min(chunk, soaks - start), pairs
        known = rng.random(size)
        better = known < DISCORDANCE / 2
        lost = known > 1 - DISCORDANCE / 2 - truth.loss
        times = 10 * np.exp(truth.noise * rng.standard_normal((2, *size)))
        times[0] *= truth.slower
        slow = times[0] > (1 + rules.latency_margin) * times[1]
        broken = rng.random(size) < truth.errors
        none = np.zeros(size, bool)
        level = LEVEL / 3
        ended = worse(none, broken, level, rules.error_margin)
        ended |= worse(better, lost, level, rules.margin)
        ended |= worse(~slow, slow, level / 2, 0.0)
        ended |= worse(*_tails(times, rules), level / 2, soak._TAIL_MARGIN)
        failed.append(_first(ended))
        up, down = better.cumsum(1), lost.cumsum(1)
        flat = np.arange(1, pairs + 1) - up - down
        first.append(_first(log_wealth(up, flat, down, -rules.margin) >= -math.log(LEVEL)))
    return Ends(np.concatenate(failed), np.concatenate(first))


def _first(true: Bools) -> npt.NDArray[np.int64]:
    """The first pair of which it is true, from 1; 0 if it is of none."""
    return np.where(true.any(1), true.argmax(1) + 1, 0)


def worse(better: Bools, lesser: Bools, level: float, margin: float) -> Bools:
    """Whether it is shown, and larger than the margin, after each pair."""
    up, down = better.cumsum(1), lesser.cumsum(1)
    count = np.arange(1, better.shape[1] + 1)
    shown = log_wealth(down, count - up - down, up) >= -math.log(level)
    return np.asarray(shown & ((down - up) / count > margin))


def _tails(times: Any, rules: Rules) -> tuple[Bools, Bools]:
    """Who is slower, by the margin, than 95 of 100 answers of the old one before; the other not."""
    slow = np.zeros(times.shape, bool)
    for pair in range(soak.FEWEST, times.shape[2]):
        usual = np.percentile(times[1, :, max(pair - 500, 0) : pair], soak._TAIL, axis=1)
        limit = (1 + rules.latency_margin) * usual
        slow[:, :, pair] = times[:, :, pair] > limit
    new, old = slow
    return old & ~new, new & ~old
