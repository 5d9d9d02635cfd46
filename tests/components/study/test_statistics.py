"""The paired tests against others' implementations, against enumeration, and under their nulls."""

import itertools

import numpy as np
import pytest
from scipy import stats

from bnpipe.components.study.plan import MIN_PAIRS
from bnpipe.components.study.statistics import Paired, holm

RNG = np.random.default_rng(7)


def paired(x: object, y: object, scale: str = "points", margin: float = 0.1, cap: float = 100.0):
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    return Paired(x, y, scale, margin, np.arange(x.shape[-1]), cap)


def test_points_are_scipys_paired_t_test_and_its_interval() -> None:
    x, y = RNG.normal(0.97, 0.01, 20), RNG.normal(0.96, 0.01, 20)
    ours, theirs = paired(x, y), stats.ttest_rel(x, y)
    assert ours.p_difference == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval()
    assert ours.effect() == pytest.approx((np.mean(x - y), interval.low, interval.high))


def test_a_few_coarse_gains_are_tested_by_all_their_signs() -> None:
    gains = np.array([2, 2, 1, 1, 1, 0, -1, 1, 3, 1])
    pair = paired(np.ones(10), np.exp(gains), "rates")
    sums = [abs(np.dot(gains, s)) for s in itertools.product((1, -1), repeat=10)]
    assert pair.p_difference == pytest.approx(np.mean(np.array(sums) >= gains.sum()))


def test_who_never_gets_there_is_slower_than_all_who_do() -> None:
    never = np.full(20, np.inf)
    fast, slow = np.linspace(10, 20, 20), np.linspace(30, 99, 20)
    assert paired(fast, never, "steps").p_better < 1e-4
    assert paired(never, slow, "steps").p_worse < 1e-4
    assert paired(fast, never, "steps").effect().value == pytest.approx(
        np.exp(np.median(np.log(100 / fast)))
    )


def test_the_interval_of_a_speed_is_open_where_one_never_got_there() -> None:
    slow = np.where(np.arange(20) < 12, np.inf, 50.0)
    low, high = paired(np.linspace(10, 20, 20), slow, "steps").effect()[1:]
    assert 2 < low < 10
    assert high == np.inf
    low, high = paired(slow, np.linspace(10, 20, 20), "steps").effect()[1:]
    assert low == 0
    assert 0.1 < high < 0.5


@pytest.mark.parametrize("scale", ["points", "ratio", "steps", "rates"])
def test_no_worse_is_shown_by_better_and_by_same_but_not_by_worse_than_the_margin(
    scale: str,
) -> None:
    near, far = 1 + RNG.uniform(-0.02, 0.02, 20), np.full(20, 1.3)
    better, worse = (far, near) if scale == "points" else (near, far)
    assert paired(better, worse, scale).p_no_worse < 0.01
    assert paired(near, np.ones(20), scale).p_no_worse < 0.01
    assert paired(worse, better, scale).p_no_worse > 0.9


def test_who_never_gets_there_is_not_as_fast_as_who_does_so_near_the_end() -> None:
    never, late = np.full(20, np.inf), np.full(20, 99.0)
    assert paired(never, late, "steps").p_no_worse > 0.9
    assert paired(never, late, "steps").p_same > 0.9
    assert paired(late, never, "steps").p_no_worse < 0.01


def test_an_effect_is_told_only_where_half_of_the_pairs_have_one() -> None:
    x, y = np.full(20, 50.0), np.full(20, 99.0)
    x[:12], y[:12] = np.inf, np.inf
    assert np.isnan(paired(x, y, "steps").effect().value)
    x[4:12], y[4:12] = 50.0, 99.0
    assert paired(x, y, "steps").effect().value == pytest.approx(99 / 50)


def test_two_arms_of_which_none_ever_gets_there_are_neither_different_nor_the_same() -> None:
    never = paired(np.full(20, np.inf), np.full(20, np.inf), "steps")
    assert never.p_difference == 1
    assert never.p_same > 0.5
    assert np.isnan(never.effect().value)


@pytest.mark.parametrize("scale", ["points", "ratio", "steps", "rates"])
def test_sameness_needs_both_sides_and_a_small_spread(scale: str) -> None:
    near, far = 1 + RNG.uniform(-0.02, 0.02, 20), np.full(20, 1.3)
    assert paired(near, np.ones(20), scale).p_same < 0.01
    assert paired(near, far, scale).p_same > 0.9
    assert paired(far, near, scale).p_same > 0.9
    assert paired(near + RNG.normal(0, 0.3, 20), np.ones(20), scale).p_same > 0.01


@pytest.mark.parametrize("scale", ["points", "ratio", "steps", "rates"])
@pytest.mark.parametrize("n", [8, 30])
def test_under_the_null_no_more_are_called_different_than_the_level_allows(
    scale: str, n: int
) -> None:
    x, y = np.exp(RNG.normal(size=(2, 4000, n)).round(1))
    if scale == "steps":
        x, y = (np.where(of > 3, np.inf, of) for of in (x, y))
    found = paired(x, y, scale, cap=3.0).p_difference <= 0.05 / 6
    assert found.mean() <= 0.05 / 6 + 3 * np.sqrt(0.0083 / 4000)


@pytest.mark.parametrize("scale", ["points", "ratio", "steps", "rates"])
def test_too_few_pairs_decide_nothing(scale: str) -> None:
    few = paired(np.ones(MIN_PAIRS - 1), np.full(MIN_PAIRS - 1, 50.0), scale)
    assert (few.p_difference, few.p_same) == (1, 1)


def test_values_that_are_all_the_same_have_an_interval_without_width() -> None:
    assert paired(np.full(8, 0.5), np.full(8, 0.25)).effect() == (0.25, 0.25, 0.25)
    assert paired(np.full(8, 0.5), np.full(8, 0.25)).p_difference < 1e-9
    assert paired(np.full(8, 0.5), np.full(8, 0.5)).p_difference == 1


def test_swapping_labels_swaps_the_sign_and_no_p_value() -> None:
    x, y = RNG.normal(1, 0.1, 12), RNG.normal(1.1, 0.1, 12)
    pair = paired(x, y)
    back = pair.swapped(np.ones((1, 12), dtype=bool))
    assert back.p_difference[0] == pytest.approx(pair.p_difference)
    assert back.sign[0] == -pair.sign
    one = np.arange(12) == 3
    assert pair.swapped(one).gain.tolist() == np.where(one, -pair.gain, pair.gain).tolist()


def test_holm_as_in_his_paper_over_the_first_axis() -> None:
    adjusted, factors = holm(np.array([[0.01, 0.5], [0.04, 0.001], [0.03, 0.04], [0.005, 1.0]]))
    assert adjusted[:, 0] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert factors[:, 0].tolist() == [3, 1, 2, 4]
    assert adjusted[:, 1] == pytest.approx([1.0, 0.004, 0.12, 1.0])
