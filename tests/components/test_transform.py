"""transform: features as the model is trained on them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.artifacts import SPLITS, Examples, TransformedExamples
from bnpipe.components.transform import COMPONENT, Inputs, Params
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import encode, read_batches
from bnpipe.data.records.tfrecord import frame
from tests.transformed import read_transformed


def images(examples: Examples, split: str) -> np.ndarray:
    parts = [b.columns["image"] for shard in examples.shards(split) for b in read_batches(shard)]
    return np.concatenate(parts)


def test_features_are_the_scaled_pixels_in_order(
    tiny_examples: Examples, tiny_transformed: TransformedExamples
) -> None:
    assert DatasetInfo.read(tiny_transformed.path) == DatasetInfo.read(tiny_examples.path)
    for split in SPLITS:
        read = read_transformed(tiny_transformed.shards(split))
        np.testing.assert_array_equal(
            read.features, images(tiny_examples, split) * np.float32(1 / 255)
        )
        assert read.features.dtype == np.float32
        assert len(read.label) == len(read.id) == len(read.features)


def test_labels_and_ids_are_handed_on(
    tiny_examples: Examples, tiny_transformed: TransformedExamples
) -> None:
    before = [b for shard in tiny_examples.shards("train") for b in read_batches(shard)]
    read = read_transformed(tiny_transformed.shards("train"), features=False)
    np.testing.assert_array_equal(read.label, np.concatenate([b.columns["label"] for b in before]))
    assert read.id.tolist() == [row.tobytes() for b in before for row in b.columns["id"]]


def test_ink_quartiles_cut_the_train_images_in_four(
    tiny_examples: Examples, tiny_transformed: TransformedExamples
) -> None:
    quartile = read_transformed(tiny_transformed.shards("train")).columns["ink_quartile"]
    counts = np.bincount(quartile, minlength=4)
    assert len(counts) == 4
    assert np.ptp(counts) <= 2
    ink = images(tiny_examples, "train").mean(axis=1)
    for below, above in ((0, 1), (1, 2), (2, 3)):
        assert ink[quartile == below].max() <= ink[quartile == above].min()
    cuts = tiny_transformed.read_json("dataset.json")["ink_cuts"]
    assert tiny_transformed.read_json("dataset.json")["train_labels"] == list(range(10))
    assert cuts == sorted(cuts)
    assert len(cuts) == 3


def test_tensorflow_reads_the_features(tiny_transformed: TransformedExamples) -> None:
    import tensorflow as tf

    spec = {
        "features": tf.io.FixedLenFeature([784], tf.float32),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "id": tf.io.FixedLenFeature([], tf.string),
        "ink_quartile": tf.io.FixedLenFeature([], tf.int64),
    }
    files = [str(path) for path in tiny_transformed.shards("test")]
    parsed = tf.io.parse_example(next(iter(tf.data.TFRecordDataset(files).batch(1000))), spec)
    read = read_transformed(tiny_transformed.shards("test"))
    np.testing.assert_array_equal(parsed["features"].numpy(), read.features)
    np.testing.assert_array_equal(parsed["id"].numpy(), read.id)


def test_equal_examples_give_equal_bytes(
    tiny_examples: Examples,
    tiny_transformed: TransformedExamples,
    run_component: Callable[..., Any],
    tmp_path: Path,
) -> None:
    threads = ("--direct_running_mode=multi_threading", "--direct_num_workers=2")
    again = run_component(
        COMPONENT, Inputs(examples=tiny_examples), Params(), tmp_path, beam_flags=threads
    ).outputs.transformed
    for path in sorted(p for p in tiny_transformed.path.rglob("*") if p.is_file()):
        relative = path.relative_to(tiny_transformed.path)
        assert (again.path / relative).read_bytes() == path.read_bytes()


def flip_one_bit(content: bytearray) -> None:
    content[len(content) // 2] ^= 1


def cut_short(content: bytearray) -> None:
    del content[-10:]


def empty(content: bytearray) -> None:
    content.clear()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (flip_one_bit, r"is damaged at offset \d+"),
        (cut_short, r"is cut short at offset \d+"),
        (empty, r"expected \d+ records, received 0: the file is cut short"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_damaged_examples_are_named_with_file_and_offset(
    tiny_examples: Examples,
    run_component: Callable[..., Any],
    tmp_path: Path,
    split: str,
    damage: Callable[[bytearray], None],
    complaint: str,
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    shard = copy.shards(split)[1]
    content = bytearray(shard.read_bytes())
    damage(content)
    shard.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        run_component(COMPONENT, Inputs(examples=copy), Params(), tmp_path / "out")
    assert str(shard) in str(caught.value)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_records_that_example_gen_did_not_write_are_refused(
    tiny_examples: Examples, run_component: Callable[..., Any], tmp_path: Path
) -> None:
    copy = tiny_examples.at(Path(shutil.copytree(tiny_examples.path, tmp_path / "copy")))
    shard = copy.shards("test")[0]
    columns = next(read_batches(shard)).columns
    shard.write_bytes(frame(encode({n: columns[n] for n in ("image", "label", "id")})).tobytes())
    with pytest.raises(
        DataError, match="at offset 0: expected the features image, label, id, span"
    ):
        run_component(COMPONENT, Inputs(examples=copy), Params(), tmp_path / "out")


def test_a_folder_without_a_description_is_named(
    run_component: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "examples").mkdir()
    inputs = Inputs(examples=Examples("example_gen.examples", tmp_path / "examples"))
    with pytest.raises(DataError, match=r"dataset\.json does not describe a data set"):
        run_component(COMPONENT, inputs, Params(), tmp_path / "out")
