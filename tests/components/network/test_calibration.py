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
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    sure = at_temperature(special.softmax(logits, axis=1), found)
    assert sure.max(axis=1).mean() == pytest.approx(
        np.mean(sure.argmax(axis=1) == labels), abs=0.01
    )


def test_it_changes_no_answer_and_is_the_same_twice():
    logits, labels = drawn(2.5, 500)
    before = special.softmax(logits, axis=1)
    found = fit_temperature(logits, labels)
    assert found == fit_temperature(logits, labels)
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


def test_without_examples_there_is_no_temperature_and_without_mistakes_a_finite_one():
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int32)) is None
    assert fit_temperature(np.eye(3), np.arange(3)) == pytest.approx(1 / 20, rel=0.01)
    assert fit_temperature(np.eye(3), (np.arange(3) + 1) % 3) == pytest.approx(20, rel=0.01)
