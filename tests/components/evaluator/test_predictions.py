import numpy as np
import pytest

from bnpipe.components.evaluator.predictions import Predictions, slice_name
from bnpipe.data.errors import DataError


@pytest.fixture
def predictions():
    return Predictions(
        ids=np.array([b"a", b"bb", b"ccc", b"d"]),
        labels=np.array([0, 2, 2, 0]),
        columns={"ink": np.array([1, 1, 0, 1]), "brightness": np.linspace(0, 1, 4)},
        probabilities={"candidate": np.eye(3, dtype=np.float32)[[0, 2, 1, 0]]},
    )


def test_it_reads_what_it_wrote(predictions, tmp_path):
    predictions.write(tmp_path / "p.npz")
    again = Predictions.read(tmp_path / "p.npz")
    assert again.ids.tolist() == predictions.ids.tolist()
    assert set(again.columns) == {"ink", "brightness"}
    np.testing.assert_array_equal(
        again.probabilities["candidate"], predictions.probabilities["candidate"]
    )


def test_equal_predictions_are_equal_bytes(predictions, tmp_path):
    for name in ("one", "two"):
        predictions.write(tmp_path / f"{name}.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_several_files_are_one_after_the_other(predictions, tmp_path):
    predictions.write(tmp_path / "p.npz")
    twice = Predictions.read(tmp_path / "p.npz", tmp_path / "p.npz")
    assert twice.labels.tolist() == [0, 2, 2, 0] * 2


def test_every_class_has_a_slice_even_without_images(predictions):
    slices = predictions.slices(("label",), classes=3)
    assert [(s.name, int(s.rows.sum())) for s in slices] == [
        ("overall", 4),
        ("label:0", 2),
        ("label:1", 0),
        ("label:2", 2),
    ]


def test_a_class_that_never_occurs_in_train_is_no_slice(predictions):
    """TFDS's emnist/letters declares 37 classes; 26 occur, and the rest has no accuracy."""
    expected = {"label": [0, 1]}
    slices = predictions.slices(("label",), classes=37, expected=expected)
    # 1 is missing in the test images, which is worth a slice; 2 occurs there, if not in train.
    assert [s.name for s in slices] == ["overall", "label:0", "label:1", "label:2"]


def test_crossed_slices_are_the_combinations_that_occur_by_tfmas_names(predictions):
    slices = predictions.slices(("label*ink",), classes=3)
    assert [s.name for s in slices[1:]] == [
        "ink_X_label:0_X_2",
        "ink_X_label:1_X_0",
        "ink_X_label:1_X_2",
    ]


@pytest.mark.parametrize("slicings", [("label*label",), ("ink", "ink"), ("label*ink", "ink*label")])
def test_the_same_thing_twice_is_refused(predictions, slicings):
    with pytest.raises(DataError, match="expected different columns and slicings"):
        predictions.slices(slicings, classes=3)


def test_names_are_those_of_tfma():
    import tensorflow_model_analysis as tfma

    key = (("ink", 1), ("label", 2))
    assert slice_name(("ink", "label"), (1, 2)) == tfma.slicer.stringify_slice_key(key)


def test_a_measurement_is_not_a_slice_column():
    many = np.arange(500)
    predictions = Predictions(many.astype("S"), many % 10, {"brightness": many / 500}, {})
    with pytest.raises(DataError, match="at most 100 values, received 'brightness' with 500"):
        predictions.slices(("brightness",), classes=10)


def test_a_column_that_is_not_there_is_refused_with_those_that_are(predictions):
    with pytest.raises(DataError, match=r"\(brightness, ink, label\), received 'colour'"):
        predictions.slices(("colour",), classes=3)


def test_a_value_that_a_column_must_have_is_a_slice_without_images():
    found = Predictions(
        ids=np.array([b"a", b"b"]),
        labels=np.array([0, 1]),
        columns={"ink_quartile": np.array([0, 3])},
        probabilities={},
    ).slices(("ink_quartile", "ink_quartile*label"), 2, {"ink_quartile": range(4)})
    images = {part.name: int(part.rows.sum()) for part in found[1:]}
    assert [images[f"ink_quartile:{k}"] for k in range(4)] == [1, 0, 0, 1]
    assert len(images) == 6
