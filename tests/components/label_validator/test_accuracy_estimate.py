import numpy as np
import pytest
from scipy import special, stats

from bnpipe.components.label_validator.accuracy_estimate import estimate_accuracy
from bnpipe.components.network.calibration import fit_temperature


def answers(images, *, too_sure=1.0, shares=None, wrong_by=0.0, seed=0):
    """Answers and labels of a calibrated network, or one that is too sure, or more often wrong."""
    rng = np.random.default_rng(seed)
    classes = rng.choice(5, size=images, p=shares)
    logits = rng.normal(0, 1.5, (images, 5)) + 4 * np.eye(5)[classes]
    cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((images, 1)) > cumulated[:, :-1]).sum(axis=1)
    off = rng.random(images) < wrong_by
    labels[off] = (labels[off] + 1) % 5
    return special.softmax(too_sure * logits, axis=1).astype(np.float32), labels.astype(np.int64)


REFERENCE = answers(10_000)


@pytest.mark.parametrize(
    ("too_sure", "shares"),
    [(1.0, None), (1.0, [0.6, 0.3, 0.1, 0, 0]), (2.0, None)],
    ids=["like the reference", "label shift", "too sure, and scaled back"],
)
def test_the_interval_holds_the_true_accuracy_as_often_as_it_says(too_sure, shares):
    inside, errors = 0, []
    for seed in range(100):
        # Drawn anew each time: windows that share a reference share what it is off by.
        reference, labels = answers(4000, too_sure=too_sure, seed=1000 + seed)
        sample, truth = answers(1000, too_sure=too_sure, shares=shares, seed=seed)
        estimate = estimate_accuracy(reference, labels, sample, too_sure)
        accuracy = np.mean(sample.argmax(axis=1) == truth)
        inside += estimate.low <= accuracy <= estimate.high
        errors.append(estimate.accuracy - accuracy)
    assert inside >= stats.binom.ppf(0.001, 100, 0.99)
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(100)
    assert estimate.before == pytest.approx(np.mean(reference.argmax(axis=1) == labels))


def rarely_wrong(rng, images, hard):
    """Logits of a calibrated network that is sure of most images, and labels."""
    logits = rng.normal(0, 1, (images, 10))
    lift = np.where(rng.random(images) < hard, 2.0, 12.0)
    logits[np.arange(images), rng.integers(0, 10, images)] += lift
    cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
    return logits, (rng.random((images, 1)) > cumulated[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("validation", [100, 400, 1500])
def test_the_interval_holds_with_a_temperature_that_was_fitted(validation):
    """On a sample that is ten times as hard: a wrong temperature does not cancel out there."""
    rng, inside = np.random.default_rng(0), 0
    for _ in range(100):
        fit = fit_temperature(*rarely_wrong(rng, validation, 0.05))
        (before, labels), (now, truth) = rarely_wrong(rng, 1000, 0.05), rarely_wrong(rng, 1000, 0.5)
        reference, sample = (special.softmax(z, axis=1).astype(np.float32) for z in (before, now))
        estimate = estimate_accuracy(reference, labels, sample, *fit)
        inside += estimate.low <= np.mean(sample.argmax(axis=1) == truth) <= estimate.high
    assert inside >= 96


def test_an_interval_is_no_wider_than_it_has_to_be():
    sample, _ = answers(2000, seed=1)
    estimate = estimate_accuracy(*REFERENCE, sample, 1.0)
    assert estimate.low < estimate.accuracy < estimate.high < estimate.low + 0.06


def test_what_calibration_is_off_by_on_the_reference_is_made_up_for():
    """A network that errs more often than it says, on the reference as on the sample."""
    reference, labels = answers(10_000, wrong_by=0.1)
    sample, truth = answers(2000, wrong_by=0.1, seed=1)
    estimate = estimate_accuracy(reference, labels, sample, 1.0)
    assert estimate.low < np.mean(sample.argmax(axis=1) == truth) < estimate.high


def test_it_ends_where_accuracy_does():
    sure = np.tile(np.array([[1, 0]], np.float32), (1000, 1))
    estimate = estimate_accuracy(sure, np.zeros(1000, np.int64), sure, 1.0)
    assert (estimate.low, estimate.accuracy, estimate.high) == pytest.approx((1, 1, 1))


def test_without_answers_there_is_no_estimate():
    with pytest.raises(ValueError, match="10000 and 0"):
        estimate_accuracy(*REFERENCE, REFERENCE[0][:0], 1.0)
