import numpy as np
import pytest
from scipy import special

from bnpipe.components.network.calibration import at_temperature, fit_temperature


def drawn(temperature, images=20_000):
    """Logits of a network that is too sure by a known factor, and labels as they really come."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (images, 10))
    cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((images, 1)) > cumulated[:, :-1]).sum(axis=1)
    return (logits * temperature).astype(np.float32), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_factor_by_which_the_network_is_too_sure(temperature):
    logits, labels = drawn(temperature)
    found, error = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    assert abs(np.log(found / temperature)) < 4 * error < 0.1
    sure = at_temperature(special.softmax(logits, axis=1), found)
    assert sure.max(axis=1).mean() == pytest.approx(
        np.mean(sure.argmax(axis=1) == labels), abs=0.01
    )


def test_it_changes_no_answer_and_is_the_same_twice():
    logits, labels = drawn(2.5, 500)
    before = special.softmax(logits, axis=1)
    found, error = fit_temperature(logits, labels)
    assert (found, error) == fit_temperature(logits, labels)
    np.testing.assert_array_equal(at_temperature(before, found).argmax(1), before.argmax(1))
    np.testing.assert_allclose(at_temperature(before, 1.0), before, atol=1e-6)


def test_from_probabilities_comes_what_the_logits_give():
    logits, _ = drawn(1.0, 100)
    expected = special.softmax(logits.astype(np.float64) / 3, axis=1)
    np.testing.assert_allclose(at_temperature(special.softmax(logits, axis=1), 3), expected, 1e-4)


def test_probabilities_that_were_rounded_to_zero_stay_probabilities():
    saturated = np.array([[1, 0, 0]], np.float32)
    sums = [at_temperature(saturated, t).sum() for t in (0.1, 1.3, 20)]
    assert sums == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("images", [0, 99])
def test_with_too_few_examples_there_is_no_temperature(images):
    assert fit_temperature(np.zeros((images, 3), np.float32), np.zeros(images, np.int32)) is None


def test_without_mistakes_the_temperature_stays_near_one_and_its_error_says_why():
    labels = np.arange(200) % 3
    found, error = fit_temperature(12 * np.eye(3)[labels], labels)
    assert 0.5 < found < 1 and error == pytest.approx(0.5, rel=0.1)


def test_the_error_is_as_large_as_the_fits_differ():
    """Of a network that errs rarely, so that few examples tell its temperature."""
    rng = np.random.default_rng(0)
    fits = []
    for _ in range(100):
        logits = rng.normal(0, 1, (400, 10))
        lift = np.where(rng.random(400) < 0.05, 2.0, 12.0)
        logits[np.arange(400), rng.integers(0, 10, 400)] += lift
        cumulated = special.softmax(logits, axis=1).cumsum(axis=1)
        labels = (rng.random((400, 1)) > cumulated[:, :-1]).sum(axis=1)
        fits.append(fit_temperature(logits, labels))
    assert min(f.temperature for f in fits) > 0.5 and max(f.temperature for f in fits) < 2
    scores = [np.log(f.temperature) / f.error for f in fits]
    assert 0.8 < np.std(scores) < 1.25 and abs(np.mean(scores)) < 0.3
