"""Examples as columns: what is written must be what every other reader of tf.Examples sees."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import encode, read_batches, read_blocks
from bnpipe.data.records.tfrecord import FOOTER, HEADER, DamagedRecordError, frame, read_runs
from tests.transformed import read_transformed


def columns(count: int, features: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (count, features), np.uint8),
        "features": rng.random((count, features), np.float32),
        "label": rng.integers(0, 10, count),
        "id": np.frombuffer(b"".join(b"set/%04d" % i for i in range(count)), np.uint8).reshape(
            count, 8
        ),
    }


def write(path: Path, *batches: dict[str, np.ndarray]) -> Path:
    path.write_bytes(b"".join(frame(encode(batch)).tobytes() for batch in batches))
    return path


def test_tensorflow_reads_the_same_values(tmp_path: Path) -> None:
    import tensorflow as tf

    written = columns(40)
    path = write(tmp_path / "shard", written)
    spec = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "features": tf.io.FixedLenFeature([6], tf.float32),
        "label": tf.io.FixedLenFeature([], tf.int64),
        "id": tf.io.FixedLenFeature([], tf.string),
    }
    batch = next(iter(tf.data.TFRecordDataset(str(path)).batch(64)))
    parsed = {name: value.numpy() for name, value in tf.io.parse_example(batch, spec).items()}
    assert [bytes(row) for row in written["image"]] == parsed["image"].tolist()
    np.testing.assert_array_equal(parsed["features"], written["features"])
    np.testing.assert_array_equal(parsed["label"], written["label"])
    assert parsed["id"][7] == b"set/0007"


def test_reads_what_tensorflow_wrote(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "shard"
    names = [b"a", b"bcd", b"", b"bcd"]
    labels = [0, 9, 300, -1]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, label in zip(names, labels, strict=True):
            features = {
                "id": tf.train.Feature(bytes_list=tf.train.BytesList(value=[name])),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
                "x": tf.train.Feature(float_list=tf.train.FloatList(value=[1.5, -2.0])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString(deterministic=True))
    batches = list(read_batches(path))
    assert [int(v) for b in batches for v in b.columns["label"]] == labels
    assert [row.tobytes() for b in batches for row in b.columns["id"]] == names
    assert all((b.columns["x"] == [1.5, -2.0]).all() for b in batches)


@settings(max_examples=50)
@example([0, 0])  # numpy joins columns of one byte in Fortran's order
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
def test_any_integer_survives(tmp_path_factory: pytest.TempPathFactory, values: list[int]) -> None:
    path = tmp_path_factory.mktemp("ints") / "shard"
    write(path, {"label": np.array(values, np.int64)})
    assert [int(v) for b in read_batches(path) for v in b.columns["label"]] == values


@pytest.mark.parametrize(
    "laid_out",
    [
        np.asfortranarray,
        lambda rows: np.repeat(rows, 2, axis=1)[:, ::2],
        lambda rows: np.ascontiguousarray(rows[::-1])[::-1],
    ],
    ids=["by columns", "with gaps", "from the end"],
)
def test_records_are_framed_alike_in_any_memory_order(laid_out: Any) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    np.testing.assert_array_equal(frame(laid_out(rows)), frame(rows))
    one = np.broadcast_to(rows[:1], rows.shape)
    np.testing.assert_array_equal(frame(one), frame(one.copy()))


def test_batches_of_other_layouts_in_one_file_are_read_in_order(tmp_path: Path) -> None:
    first, second = columns(3), columns(2, features=9, seed=1)
    path = write(tmp_path / "shard", first, second, first)
    read = [batch.columns["image"] for batch in read_batches(path)]
    assert [image.tobytes() for image in read] == [
        first["image"].tobytes(),
        second["image"].tobytes(),
        first["image"].tobytes(),
    ]


def test_files_larger_than_a_block_are_read_whole(tmp_path: Path) -> None:
    many = columns(3000, features=700)
    read = read_transformed([write(tmp_path / "shard", many)])
    np.testing.assert_array_equal(read.features, many["features"])
    np.testing.assert_array_equal(read.label, many["label"])
    assert read.id[2999] == b"set/2999"


def test_a_record_larger_than_a_block_is_read(tmp_path: Path) -> None:
    large = columns(2, features=1_500_000)
    read = [b.columns["image"] for b in read_batches(write(tmp_path / "shard", large))]
    np.testing.assert_array_equal(np.concatenate(read), large["image"])


def test_every_flipped_byte_is_noticed_with_its_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "shard", columns(3, features=4))
    sound = path.read_bytes()
    record = len(sound) // 3
    for at in range(record, 2 * record):
        damaged = bytearray(sound)
        damaged[at] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DamagedRecordError, match=f"{path} is .* at offset {record}"):
            list(read_batches(path))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "shard", columns(2, features=4))
    sound = path.read_bytes()
    for length in range(len(sound) // 2 + 1, len(sound)):
        path.write_bytes(sound[:length])
        with pytest.raises(DamagedRecordError, match=f"cut short at offset {len(sound) // 2}"):
            list(read_batches(path))


def test_damaged_payload_is_listed_without_losing_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path / "shard", columns(5, features=4))
    damaged = bytearray(path.read_bytes())
    damaged[2 * (len(damaged) // 5) + HEADER + 3] ^= 1
    path.write_bytes(damaged)
    (run,) = read_runs(path)
    assert run.damaged.tolist() == [2]
    assert len(run.payload) == 5
    assert run.offset_of(2) == 2 * (run.payload.shape[1] + HEADER + FOOTER)


def test_records_that_are_no_examples_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shard"
    path.write_bytes(frame(np.full((1, 9), 7, np.uint8)).tobytes())
    with pytest.raises(DataError, match=f"{path} at offset 0: expected a tf.Example"):
        list(read_batches(path))


def test_labels_without_features(tmp_path: Path) -> None:
    data = columns(4) | {"ink_quartile": np.array([0, 1, 2, 3])}
    read = read_transformed([write(tmp_path / "shard", data)], features=False)
    assert read.features.shape == (0, 0)
    assert read.columns["ink_quartile"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("rows", [1, 300, 500, 5000])
def test_blocks_have_the_rows_that_were_asked_for(tmp_path: Path, rows: int) -> None:
    """Also where a block begins in one file, or batch of a file, and ends in another."""
    shards = [
        write(tmp_path / name, columns(n, features=700)) for name, n in (("a", 700), ("b", 9))
    ]
    blocks, whole = list(read_blocks(shards, rows)), read_transformed(shards)
    assert [len(block.label) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    assert len(blocks) == -(-709 // rows)
    for name in ("features", "label", "id"):
        joined = np.concatenate([getattr(block, name) for block in blocks])
        np.testing.assert_array_equal(joined, getattr(whole, name))
    assert list(read_blocks([], rows)) == []


def test_floats_that_are_cut_and_endless_integers_are_no_examples(tmp_path: Path) -> None:
    import tensorflow as tf

    path = tmp_path / "x"
    for feature in (b"\x12\x05\x0a\x03abc", b"\x1a\x0e\x0a\x0c" + b"\x80" * 11 + b"\x01"):
        entry = b"\x0a\x01x\x12" + bytes([len(feature)]) + feature
        features = b"\x0a" + bytes([len(entry)]) + entry
        example = b"\x0a" + bytes([len(features)]) + features
        with tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(example)
        with pytest.raises(DataError, match="at offset 0: expected"):
            list(read_batches(path))
