"""Which images are kept for the report."""

from pathlib import Path

import numpy as np

from bnpipe.components.evaluator.pictures import choose, write
from bnpipe.components.evaluator.predictions import Predictions
from tests.components.evaluator import fakes


def answers(labels: np.ndarray, guesses: list[int], confidence: list[float]) -> np.ndarray:
    rows = np.full((len(labels), fakes.CLASSES), 0.0, np.float32)
    rest = (1 - np.array(confidence)) / (fakes.CLASSES - 1)
    rows += rest[:, None].astype(np.float32)
    rows[np.arange(len(labels)), guesses] = confidence
    return rows


def predictions(labels: np.ndarray) -> Predictions:
    # Row 0 is right, row 1 wrong and sure, row 2 wrong and unsure, row 3 right where the other
    # model is sure of something else.
    candidate = answers(labels, [0, 0, 0, 3], [0.9, 0.99, 0.4, 0.9])
    baseline = answers(labels, [0, 0, 2, 7], [0.9, 0.9, 0.4, 0.99])
    ids = np.array([b"a", b"b", b"c", b"d"])
    return Predictions(ids, labels, {}, {"candidate": candidate, "baseline": baseline})


LABELS = np.array([0, 1, 2, 3])


def test_the_worst_mistake_comes_first():
    assert choose(predictions(LABELS), 5)["mistakes"].tolist() == [1, 2]
    assert choose(predictions(LABELS), 1)["mistakes"].tolist() == [1]


def test_the_strongest_disagreement_comes_first():
    assert choose(predictions(LABELS), 5)["disagreements/baseline"].tolist() == [3, 2]


def test_nothing_is_chosen_without_a_candidate(tmp_path: Path):
    without = predictions(LABELS).without(["candidate"])
    write(without, [], fakes.info(4), 5, tmp_path / "pictures.npz")
    with np.load(tmp_path / "pictures.npz") as stored:
        assert stored.files == []


def test_a_picture_is_the_image_of_its_row(tmp_path: Path):
    features, _ = fakes.draw(4, seed=1)
    examples = fakes.write_examples(tmp_path / "examples", features, LABELS)
    path = tmp_path / "pictures.npz"
    write(predictions(LABELS), examples.shards("test"), fakes.info(4), 5, path)
    with np.load(path) as stored:
        rows, images = stored["disagreements/baseline/row"], stored["disagreements/baseline/image"]
    expected = (features[rows] * 255).round().astype(np.uint8)
    assert np.array_equal(images.reshape(2, -1), expected)
