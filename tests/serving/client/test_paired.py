"""Bounds that hold whenever one looks."""

import math

import numpy as np
import pytest

from bnpipe.serving.client.paired import Paired, log_wealth


def test_wealth_is_no_more_than_one_on_average_where_the_doubted_mean_is_true() -> None:
    """By all ways that three differences can go: the property that every bound rests on."""
    for mean, chances in (
        (0.0, (0.3, 0.4, 0.3)),
        (-0.01, (0.1, 0.79, 0.11)),
        (0.2, (0.4, 0.4, 0.2)),
    ):
        expected = sum(
            math.prod(chances[k] for k in way)
            * math.exp(log_wealth(*np.bincount(way, minlength=3), mean))
            for way in np.ndindex(3, 3, 3)
        )
        assert expected == pytest.approx(1.0)


def test_nothing_is_known_without_pairs() -> None:
    empty = Paired()
    assert (empty.pairs, empty.mean) == (0, 0.0)
    assert empty.band(0.01) == (-1.0, 1.0)
    assert not empty.is_worse(0.01) and not empty.is_above(-0.5, 0.01)


def test_a_few_clear_differences_suffice_and_their_mirror_shows_the_opposite() -> None:
    worse = Paired(worse=12)
    assert worse.is_worse(0.01) and not worse.is_above(-0.01, 0.01)
    better = Paired(better=12)
    assert better.is_above(0.0, 0.01) and not better.is_worse(0.01)
    lower, upper = worse.band(0.01)
    assert -1.0 <= lower <= -0.98 and upper < 0
    assert better.band(0.01) == pytest.approx((-upper, -lower), abs=1e-4)


def test_the_band_agrees_with_the_tests_and_closes() -> None:
    widths = []
    for times in (1, 4, 16):
        pairs = Paired(better=5 * times, same=480 * times, worse=15 * times)
        lower, upper = pairs.band(0.01)
        assert lower < pairs.mean == -0.02 < upper
        assert pairs.is_above(lower - 1e-4, 0.01) and not pairs.is_above(lower + 1e-4, 0.01)
        assert pairs.is_worse(0.01) == (upper < 0)
        widths.append(upper - lower)
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_differences_are_counted_by_their_sign() -> None:
    pairs = Paired()
    for difference in (1, 0, -1, -1):
        pairs.add(difference)
    assert pairs == Paired(better=1, same=1, worse=2)
    assert pairs.mean == -0.25
