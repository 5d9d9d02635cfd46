import numpy as np
import pytest
from scipy import stats

from bnpipe.components.label_validator.answer_drift import LEVEL, answer_drift


def answers(images, *, sharpness=30.0, noise=4.0, shares=None, seed=0):
    """A saturated softmax: as float32, most rows have a probability of exactly 1."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(10, size=images, p=shares)
    logits = rng.normal(0, noise, (images, 10)) + sharpness * np.eye(10)[labels]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


REFERENCE = answers(10_000)


def test_ties_of_a_saturated_softmax_cause_no_alarms():
    assert np.mean(REFERENCE.max(axis=1) == 1) > 0.5
    p_values = [answer_drift(REFERENCE[:3000], answers(500, seed=s)).p_value for s in range(1, 201)]
    for level in (0.05, 0.2):
        # As many as a right test has in 999 of 1,000 such benches, at most.
        assert np.sum(np.array(p_values) < level) <= stats.binom.ppf(0.999, 200, level)


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        ({"sharpness": 12.0}, "confidence differs most"),
        ({"shares": [0.3, *[0.7 / 9] * 9]}, "probability of class 0 differs most"),
    ],
    ids=["doubtful", "label shift"],
)
def test_other_answers_are_drift_and_the_sentence_names_what_differs(other, differs):
    seen = [answer_drift(REFERENCE, answers(500, seed=s, **other)) for s in range(1, 21)]
    assert all(drift.drifted and drift.p_value < LEVEL for drift in seen)
    assert seen[0].sentence.startswith(differs)


def test_a_single_answer_of_a_kind_that_occurs_is_no_drift():
    assert not answer_drift(REFERENCE, REFERENCE[:1]).drifted


def test_the_p_value_is_that_of_all_tests_together():
    two = REFERENCE[:, :2]
    columns = [two[:, 0], two[:, 1], two.max(axis=1)]
    each = [stats.ks_2samp(c[:300] * 0.5, c, method="asymp").pvalue for c in columns]
    halved = answer_drift(two, two[:300] * np.float32(0.5))
    assert halved.p_value == pytest.approx(min(1, 3 * min(each)))


@pytest.mark.parametrize(
    "sample",
    [REFERENCE[:0], REFERENCE[:5, :9], np.full((5, 10), np.nan, np.float32), REFERENCE[0]],
    ids=["no rows", "other classes", "no numbers", "one row"],
)
def test_what_cannot_be_compared_is_refused(sample):
    with pytest.raises(ValueError, match="expected"):
        answer_drift(REFERENCE, sample)
