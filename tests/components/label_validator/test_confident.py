"""Confident learning, held against what cleanlab 2.9.0 makes of the same answers.

`cleanlab.npz` holds 300 answers, about 12 % of whose labels are wrong, with its
`compute_confident_joint` (not calibrated), `get_confident_thresholds`, `estimate_joint`,
`get_label_quality_scores` (normalized_margin) and `find_label_issues` (confident_learning).
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bnpipe.components.label_validator import confident


@pytest.fixture(scope="module")
def oracle():
    with np.load(Path(__file__).with_name("cleanlab.npz")) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def classes(oracle):
    return confident.confident_classes(oracle["probabilities"], oracle["thresholds"])


def test_thresholds_joint_and_share_are_those_of_cleanlab(oracle, classes):
    sure = confident.thresholds(oracle["probabilities"], oracle["labels"])
    np.testing.assert_allclose(sure, oracle["thresholds"], rtol=1e-6)
    joint = confident.confident_joint(oracle["labels"], classes, 4)
    assert np.abs(joint - oracle["joint"]).sum() <= 2  # it lets the argmax be below its threshold
    share = confident.wrong_share(oracle["labels"], classes, 4)
    assert share == pytest.approx(float(oracle["wrong_share"]), abs=0.005)


def test_the_ranking_and_the_suspects_are_those_of_cleanlab(oracle, classes):
    quality = confident.label_quality(oracle["probabilities"], oracle["labels"])
    assert stats.spearmanr(quality, oracle["scores"]).statistic > 0.9999
    suspects = np.flatnonzero((classes >= 0) & (classes != oracle["labels"]))
    ranked = suspects[np.argsort(quality[suspects], kind="stable")]
    assert len(set(ranked) ^ set(oracle["issues"])) <= 2
    assert ranked[:10].tolist() == oracle["issues"][:10].tolist()


def test_a_class_that_nobody_has_is_never_sure():
    probabilities = np.array([[0.4, 0.6], [0.8, 0.2]] * 5)
    labels = np.zeros(10, int)
    sure = confident.thresholds(probabilities, labels)
    assert sure.tolist() == [pytest.approx(0.6), np.inf]
    classes = confident.confident_classes(probabilities, sure)
    assert classes.tolist() == [-1, 0] * 5
    assert confident.wrong_share(labels, classes, 2) == 0.0
    assert confident.wrong_share(labels[:0], classes[:0], 2) == 0.0


def test_a_class_that_was_hardly_learned_is_not_sure_everywhere():
    probabilities = np.array([[0.96, 0.01, 0.03]] * 100 + [[0.9, 0.01, 0.09]] * 12)
    labels = np.repeat([0, 1], [100, 12])
    assert confident.thresholds(probabilities, labels)[1] == pytest.approx(1 / 3)
    assert np.isinf(confident.thresholds(probabilities[:109], labels[:109])[1])


def test_labels_of_a_class_that_one_side_cannot_be_sure_of_are_left_to_the_other():
    labels = np.full(100, 2)
    theirs = np.tile([0.3, 0.6, 0.1], (100, 1))
    quick = np.array([1] + [2] * 99)
    agreed = confident.agreed_classes(theirs, np.array([0.5, 0.5, np.inf]), quick)
    assert confident.wrong_share(labels, agreed, 3) == pytest.approx(0.01)


def test_bounds_are_exact_for_counts_and_hold_at_the_ends():
    interval = stats.binomtest(7, 50).proportion_ci(0.9, "exact")
    assert np.allclose(confident.bounds(7 / 50, 50, 0.05), interval)
    assert [float(x) for x in confident.bounds(0.0, 0, 0.05)] == [0.0, 1.0]
    assert confident.bounds(0.0, 10, 0.05)[0] == 0.0
    assert confident.bounds(1.0, 10, 0.05)[1] == 1.0
