"""Candidates that must not be served, and the sentence that says why, from their answers alone."""

import dataclasses

import numpy as np
import pytest

from bnpipe.components.evaluator.evidence import BASELINE, CANDIDATE, count
from bnpipe.components.evaluator.gate import decide
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.predictions import Predictions, problem
from tests.components.evaluator.simulated import sound

IMAGES, CLASSES = 10_000, 10
PARAMS = Params()


def answers(labels: np.ndarray, accuracy: float, rng: np.random.Generator) -> np.ndarray:
    """Probabilities that name the true class with some accuracy, independently of each other."""
    wrong = rng.random(labels.size) > accuracy
    named = np.where(wrong, (labels + rng.integers(1, CLASSES, labels.size)) % CLASSES, labels)
    probabilities = np.full((labels.size, CLASSES), 0.03 / (CLASSES - 1), np.float32)
    probabilities[np.arange(labels.size), named] = 0.97
    return probabilities


def decided(candidate: np.ndarray, baseline: np.ndarray, labels: np.ndarray):
    predictions = Predictions(
        ids=np.array([b"%d" % i for i in range(labels.size)]),
        labels=labels,
        columns={"ink_quartile": np.arange(labels.size) // CLASSES % 4},
        probabilities={CANDIDATE: candidate, BASELINE: baseline},
    )
    slices = predictions.slices(("label", "ink_quartile"), CLASSES)
    return decide(sound(*count(predictions, slices, [BASELINE])), PARAMS)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def labels():
    return np.arange(IMAGES) % CLASSES


def test_the_healthy_pair_that_the_others_are_degraded_from_is_blessed(labels, rng):
    decision = decided(answers(labels, 0.978, rng), answers(labels, 0.976, rng), labels)
    assert decision.passed, decision.sentence


def test_trained_on_shuffled_labels(labels, rng):
    chance = answers(rng.permutation(labels), 1.0, rng)
    decision = decided(chance, answers(labels, 0.976, rng), labels)
    assert "is below the floor 0.96" in decision.sentence
    assert "baseline_slices" in decision.sentence


def test_trained_for_one_epoch(labels, rng):
    decision = decided(answers(labels, 0.9624, rng), answers(labels, 0.9746, rng), labels)
    assert "is not shown to reach the floor 0.96 by 10000 images" in decision.sentence
    against = next(rule for rule in decision.rulings if rule.name == "baseline_non_inferior")
    assert "not shown to be at most 1.00 points worse" in against.sentence


def test_blind_to_one_class(labels, rng):
    candidate = answers(labels, 0.99, rng)
    candidate[labels == 8] = answers(np.full(IMAGES // CLASSES, 3), 1.0, rng)
    decision = decided(candidate, answers(labels, 0.976, rng), labels)
    blocking = {rule.name for rule in decision.rulings if rule.outcome == "block"}
    assert "worst_class" in blocking
    worst = next(rule for rule in decision.rulings if rule.name == "worst_class")
    assert "label:8 is the weakest of 10: accuracy 0.0000" in worst.sentence


def test_logits_instead_of_probabilities(labels, rng):
    logits = rng.normal(size=(IMAGES, CLASSES)).astype(np.float32)
    assert "not probabilities" in problem(logits, IMAGES, CLASSES)


def test_one_answer_that_is_not_a_number(labels, rng):
    probabilities = answers(labels, 0.978, rng)
    probabilities[17, 3] = np.nan
    assert problem(probabilities, IMAGES, CLASSES) == (
        "its answers are not finite numbers (NaN or infinite) for 1 of 10000 images"
    )


def test_answers_for_other_classes(labels, rng):
    assert "shape (10000, 47)" in problem(np.zeros((IMAGES, 47), np.float32), IMAGES, CLASSES)


def test_no_images_at_all():
    assert problem(np.zeros((0, CLASSES), np.float32), 0, CLASSES) == (
        "there are no images to evaluate it on"
    )


def test_batch_statistics_at_inference(tmp_path):
    import tensorflow as tf

    from bnpipe.components.evaluator import inference
    from tests.components.evaluator import fakes

    features, labels = fakes.draw(512, seed=1)
    kernel, bias = fakes.fit(features, labels)
    module = tf.Module()

    def serving_default(features):
        mean, variance = tf.nn.moments(features, axes=[0])
        normalised = (features - mean) * tf.math.rsqrt(variance + 1e-3)
        return {"probabilities": tf.nn.softmax(normalised @ kernel + bias)}

    model = fakes.write_other_model(tmp_path / "model", module, serving_default)
    path = str(model.saved_model)
    difference = inference.batch_difference(path, features[:8])
    assert difference > 0.1
    assert np.isnan(inference.batch_difference(path, features[:1]))

    healthy = answers(labels, 1.0, np.random.default_rng(0))
    predictions = Predictions(labels.astype("S"), labels, {}, {CANDIDATE: healthy})
    evidence = sound(*count(predictions, predictions.slices((), CLASSES), []))
    evidence = dataclasses.replace(evidence, batch_difference=difference)
    batch = next(r for r in decide(evidence, PARAMS).rulings if r.name == "batch_invariance")
    assert batch.outcome == "block"
    assert "as when batch normalisation uses batch statistics at inference" in batch.sentence
