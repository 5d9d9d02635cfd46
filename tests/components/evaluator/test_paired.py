import numpy as np
import pytest
from scipy import stats

from bnpipe.components.evaluator import paired, statistics


@pytest.mark.parametrize(
    ("images", "discordance"), [(10_000, 0.02), (10_000, 0.0005), (10_000, 0.0), (300, 0.01)]
)
def test_the_smallest_detectable_loss_is_detected_with_the_stated_power(images, discordance):
    level, power = 0.04, 0.8
    loss = paired.smallest_detectable(discordance, images, level, power)

    def found(loss: float) -> float:
        differing = max(discordance, loss)
        shares = [(differing - loss) / 2, (differing + loss) / 2, 1 - differing]
        b, c, _ = np.random.default_rng(0).multinomial(images, shares, size=20_000).T
        return float((statistics.mcnemar_worse(b, c) <= level).mean())

    assert found(loss) == pytest.approx(power, abs=0.01)
    assert found(0.9 * loss) < power - 0.02


def test_too_few_images_show_no_loss_at_all():
    assert np.isnan(paired.smallest_detectable(0.5, 4, 0.04, 0.8))
    assert paired.smallest_detectable(0.5, 5, 0.04, 0.8) == pytest.approx(1.0, abs=0.1)


def test_the_power_at_no_loss_is_below_the_level():
    assert 0 < paired.mcnemar_power(0.0, 0.02, 10_000, 0.04) <= 0.04


def test_a_loss_beyond_no_margin_is_mcnemars_test():
    for b, c in ((3, 9), (90, 118), (0, 0)):
        expected = 1.0 if c <= b else float(statistics.mcnemar_worse(b, c))
        assert paired.worse_than_margin(b, c, 1000, 0.0) == pytest.approx(expected)


def test_a_loss_within_the_margin_is_no_evidence():
    assert paired.worse_than_margin(5, 25, 1000, 0.02) == 1.0
    assert paired.worse_than_margin(5, 26, 1000, 0.02) < 0.6


@pytest.mark.parametrize("images", [60, 250])
@pytest.mark.parametrize("share", [0.0, 0.005, 0.02])
def test_a_loss_of_the_margin_is_called_more_at_most_at_the_level(images, share):
    # Every outcome with its probability: the error of the test itself, not an estimate.
    margin, level, error = 0.03, 0.01, 0.0
    for b in range(int(stats.binom.ppf(1 - 1e-9, images, share)) + 1 if share else 1):
        counts = range(images - b + 1)
        p = [paired.worse_than_margin(b, c, images, margin) for c in counts]
        first = next((c for c in counts if p[c] <= level), images + 1)
        rest = (share + margin) / (1 - share)
        error += stats.binom.pmf(b, images, share) * stats.binom.sf(first - 1, images - b, rest)
    assert error <= level


def test_the_interval_of_a_slice_on_which_both_are_always_right_has_a_width():
    resampled = statistics.paired_bootstrap(0, 0, 12, 500, np.random.default_rng(0))
    low, high = paired.difference_interval(0, 0, 12, 0.95, resampled)
    assert low == pytest.approx(-high)
    z = stats.norm.isf(0.025)
    assert high == pytest.approx(z**2 / (12 + z**2))


def test_the_interval_is_never_narrower_than_the_bootstrap():
    for b, c, n in ((118, 90, 10_000), (0, 7, 30), (12, 0, 12)):
        resampled = statistics.paired_bootstrap(b, c, n, 500, np.random.default_rng(0))
        wide = paired.difference_interval(b, c, n, 0.95, resampled)
        bootstrap = statistics.percentile_interval(resampled, 0.95)
        assert -1 <= wide.low <= bootstrap.low
        assert bootstrap.high <= wide.high <= 1


def test_the_score_bound_keeps_a_width_without_any_discordant_image():
    z = stats.norm.isf(0.05)
    bound = paired.score_lower_bound(0, 0, 100, 0.05)
    assert bound == pytest.approx(-(z**2) / (100 + z**2))
    assert paired.score_lower_bound(0, 100, 100, 0.05) == -1.0
    assert -1 < paired.score_lower_bound(100, 0, 100, 0.05) < 1


def test_the_score_bound_is_near_the_normal_one_with_many_images():
    error = np.sqrt(118 + 90 - 28**2 / 10_000) / 10_000
    expected = 0.0028 - stats.norm.isf(0.05) * error
    assert paired.score_lower_bound(118, 90, 10_000, 0.05) == pytest.approx(expected, abs=5e-5)
