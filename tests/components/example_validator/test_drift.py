"""Distances between samples: right by scipy, quiet by chance, loud when something changed."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import distance

from bnpipe.components.example_validator import drift

RESAMPLES = 4000
SIZES = [(394, 394), (394, 9161), (9161, 9161), (55_004, 55_004)]


def samples(
    shares: np.ndarray, sizes: tuple[int, int], seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, m = sizes
    return rng.multinomial(n, shares, RESAMPLES), rng.multinomial(m, shares, RESAMPLES)


def class_shares(classes: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 20.0))


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=300), rng.normal(0.3, 1.0, 500)
    edges = np.sort(np.concatenate([a, b, [-9.0, 9.0]]))
    counts, others = np.histogram(a, edges)[0], np.histogram(b, edges)[0]
    expected = stats.ks_2samp(a, b).statistic
    assert drift.ks_distance(counts, others) == pytest.approx(expected, abs=1 / 300)
    p, q = drift.shares([1, 2, 0, 7]), drift.shares([4, 4, 4, 0])
    expected = distance.jensenshannon(p, q, base=2) ** 2
    assert drift.divergence([1, 2, 0, 7], [4, 4, 4, 0]) == pytest.approx(expected)
    assert drift.infinity_distance([1, 3], [1, 1]) == pytest.approx(0.25)


def test_equal_samples_have_no_distance_and_disjoint_ones_the_largest() -> None:
    for measure in (drift.infinity_distance, drift.divergence, drift.ks_distance):
        assert measure([5, 5, 10], [10, 10, 20]) == pytest.approx(0.0)
        assert measure([10, 0], [0, 3]) == pytest.approx(1.0)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("classes", [2, 10, 62])
@pytest.mark.parametrize(
    ("measure", "noise"),
    [
        (drift.infinity_distance, drift.infinity_noise),
        (drift.divergence, drift.divergence_noise),
    ],
)
def test_chance_alone_rarely_looks_like_drift_of_labels(
    sizes: tuple[int, int], classes: int, measure: object, noise: object
) -> None:
    a, b = samples(class_shares(classes), sizes)
    level = 0.01 / 3  # what the validator gives to each of its three drift checks
    alarms = (measure(a, b) > noise(a, b, level)).mean()  # type: ignore[operator]
    assert alarms <= 0.01
    assert alarms <= level + 4 * np.sqrt(level / RESAMPLES)


@pytest.mark.parametrize("sizes", SIZES)
def test_chance_alone_rarely_looks_like_drift_of_a_histogram(sizes: tuple[int, int]) -> None:
    a, b = samples(class_shares(256), sizes)
    for level in (0.01, 0.01 / 24):  # one test; one of eight statistics in one of three checks
        alarms = (drift.ks_distance(a, b) > drift.ks_noise(a, b, level)).mean()
        assert alarms <= level + 4 * np.sqrt(level / RESAMPLES)


def test_noise_bounds_are_not_idle() -> None:
    a, b = samples(class_shares(10), (9161, 9161))
    for measure, noise in (
        (drift.infinity_distance, drift.infinity_noise),
        (drift.divergence, drift.divergence_noise),
    ):
        assert (measure(a, b) > noise(a, b, 0.2)).mean() > 0.1


def test_noise_follows_the_sample_size() -> None:
    small, large = np.full(10, 40), np.full(10, 4000)
    for noise in (drift.infinity_noise, drift.ks_noise):
        ratio = noise(small, small, 0.01) / noise(large, large, 0.01)
        assert ratio == pytest.approx(10, rel=0.1)
    ratio = drift.divergence_noise(small, small, 0.01) / drift.divergence_noise(large, large, 0.01)
    assert ratio == pytest.approx(100, rel=0.05)
    assert drift.ks_noise(small, large, 0.01) < drift.ks_noise(small, small, 0.01)


def test_noise_grows_with_certainty() -> None:
    counts = np.full(10, 400)
    for noise in (drift.infinity_noise, drift.divergence_noise, drift.ks_noise):
        assert noise(counts, counts, 0.001) > noise(counts, counts, 0.05)


@pytest.mark.parametrize("size", [400, 9000, 55_000])
def test_a_class_that_takes_over_a_fifth_of_the_labels_exceeds_every_tolerance(size: int) -> None:
    before = class_shares(10)
    after = 0.8 * before
    after[3] += 0.2
    rng = np.random.default_rng(2)
    a, b = rng.multinomial(size, after, 200), rng.multinomial(size, before, 200)
    level = 0.01 / 3
    far = drift.infinity_distance(a, b) > drift.exceeds(drift.infinity_noise(a, b, level), 0.05)
    assert far.mean() > 0.95
    noise = drift.divergence_noise(a, b, level)
    assert (drift.divergence(a, b) > noise).mean() > 0.95
    if size >= 9000:
        assert (drift.divergence(a, b) > drift.exceeds_divergence(noise, 0.02)).mean() > 0.95


def test_a_tolerated_change_does_not_exceed_the_tolerance() -> None:
    before = np.full(10, 0.1)
    after = before.copy()
    after[0], after[1] = 0.15, 0.05
    rng = np.random.default_rng(3)
    a, b = rng.multinomial(9000, after, RESAMPLES), rng.multinomial(9000, before, RESAMPLES)
    bound = drift.exceeds(drift.infinity_noise(a, b, 0.01), 0.05)
    assert (drift.infinity_distance(a, b) > bound).mean() <= 0.01


def test_empty_samples_are_no_error() -> None:
    empty, some = np.zeros(4, np.int64), np.full(4, 100)
    for measure in (drift.infinity_distance, drift.divergence, drift.ks_distance):
        assert np.isfinite(measure(empty, some))
    for noise in (drift.infinity_noise, drift.divergence_noise, drift.ks_noise):
        assert np.isfinite(noise(empty, empty, 0.01))


def test_tolerated_counts_follow_the_sample_size() -> None:
    assert drift.allowed_count(0, 0.01, 0.01) == drift.allowed_count(500, 0.0, 0.01) == 0
    assert drift.allowed_count(500, 1.0, 0.01) == 500
    rng = np.random.default_rng(0)
    for size, share in ((85, 0.001), (400, 0.01), (10_000, 0.001), (55_000, 0.01)):
        drawn = rng.binomial(size, share, 20_000)
        allowed = drift.allowed_count(size, share, 0.01)
        assert (drawn > allowed).mean() <= 0.013
        assert (drawn >= allowed).mean() > 0.008
        assert (drawn < drift.least_count(size, share, 0.01)).mean() <= 0.013


@pytest.mark.parametrize(("size", "others"), [(50, 50), (200, 5000), (5000, 200)])
def test_how_many_values_lie_outside_the_range_of_others_by_chance(size: int, others: int) -> None:
    rng = np.random.default_rng(0)
    for level in (0.01, 0.1):
        noise = drift.outside_noise(size, others, level)
        ranks = rng.random((RESAMPLES, size + others))
        mine, theirs = ranks[:, :size], ranks[:, size:]
        low, high = theirs.min(axis=1, keepdims=True), theirs.max(axis=1, keepdims=True)
        outside = ((mine < low) | (mine > high)).sum(axis=1)
        assert (outside > noise).mean() <= 1.2 * level
        assert (outside >= noise).mean() > level / 20


def test_nothing_is_outside_the_range_of_nothing() -> None:
    assert drift.outside_noise(0, 100, 0.01) == 0
    assert drift.outside_noise(10, 0, 0.01) == 10
