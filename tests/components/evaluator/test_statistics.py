import numpy as np
import pytest
from scipy import stats

from bnpipe.components.evaluator import statistics


def test_clopper_pearson_agrees_with_scipy():
    for successes, trials in ((0, 10), (10, 10), (7, 10), (9772, 10_000)):
        low, high = statistics.clopper_pearson(successes, trials, 0.95)
        expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
        assert low == pytest.approx(expected.low, abs=1e-12)
        assert high == pytest.approx(expected.high, abs=1e-12)


def test_nothing_is_known_without_trials():
    low, high = statistics.clopper_pearson(0, 0, 0.95)
    assert (low, high) == (0.0, 1.0)


def test_mcnemar_agrees_with_the_binomial_test():
    for b, c in ((0, 0), (3, 9), (9, 3), (90, 118)):
        expected = stats.binomtest(b, b + c, alternative="less").pvalue if b + c else 1.0
        assert statistics.mcnemar_worse(b, c) == pytest.approx(expected, rel=1e-12)


def test_holm_adjusts_as_in_the_definition():
    adjusted = statistics.holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_paired_bootstrap_equals_resampling_the_images_themselves():
    ours = np.repeat([1, 0, 1, 0], [118, 90, 9664, 128])
    theirs = np.repeat([0, 1, 1, 0], [118, 90, 9664, 128])
    rng = np.random.default_rng(0)
    rows = rng.integers(0, ours.size, size=(1000, ours.size))
    by_rows = (ours[rows] - theirs[rows]).mean(axis=1)
    by_counts = statistics.paired_bootstrap(118, 90, 10_000, 20_000, rng)
    for quantile in (0.025, 0.05, 0.5, 0.975):
        assert np.quantile(by_counts, quantile) == pytest.approx(
            np.quantile(by_rows, quantile), abs=3e-4
        )


def test_paired_bootstrap_takes_many_slices_at_once():
    drawn = statistics.paired_bootstrap([5, 0], [0, 5], [100, 0], 300, np.random.default_rng(0))
    assert drawn.shape == (300, 2)
    assert (drawn[:, 0] >= 0).all()
    assert (drawn[:, 1] == 0).all()


def test_weighted_sums_are_sums_over_resampled_rows():
    values = np.stack([np.ones(500), np.arange(500.0)], axis=1)
    sums = statistics.weighted_sums(lambda rows: values[rows], 500, 2000, np.random.default_rng(0))
    assert (sums[:, 0] == 500).all()
    assert sums[:, 1].mean() == pytest.approx(values[:, 1].sum(), rel=0.01)
    standard_error = values[:, 1].std() * np.sqrt(500)
    assert sums[:, 1].std() == pytest.approx(standard_error, rel=0.1)


def test_blocks_of_rows_change_no_count_and_no_sum_visibly(monkeypatch):
    values, asked = np.stack([np.arange(500) % 2, np.random.default_rng(1).random(500)], axis=1), []

    def rows_of(rows):
        asked.append(rows.stop - (rows.start or 0))
        return values[rows]

    whole = statistics.weighted_sums(rows_of, 500, 100, np.random.default_rng(0))
    monkeypatch.setattr(statistics, "_BLOCK_ROWS", 64)
    monkeypatch.setattr(statistics, "_CHUNK_CELLS", 5000)
    asked.clear()
    blocks = statistics.weighted_sums(rows_of, 500, 100, np.random.default_rng(0))
    assert max(asked) == 64
    np.testing.assert_array_equal(blocks[:, 0], whole[:, 0])
    np.testing.assert_allclose(blocks[:, 1], whole[:, 1], rtol=1e-12)


def test_calibration_error_of_a_known_case():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    gaps = statistics.bin_gaps(confidence, correct)
    error = np.abs(gaps.sum(axis=0)).sum() / 6
    assert error == pytest.approx((4 * 0.20 + 2 * 0.05) / 6)


def test_a_confidence_of_zero_or_one_has_a_bin():
    assert statistics.calibration_bins(np.array([0.0, 1.0, 1 / 15])).tolist() == [0, 14, 0]


def test_area_under_roc_counts_ties_half():
    positive = np.array([True, True, False, False])
    assert statistics.area_under_roc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1.0
    assert statistics.area_under_roc(np.array([0.5, 0.5, 0.5, 0.5]), positive) == 0.5
    assert np.isnan(statistics.area_under_roc(np.array([0.5]), np.array([True])))
