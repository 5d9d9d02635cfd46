"""Prepared data that is not as it should be: every record is read or reported with its offset."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.data.errors import DataError
from bnpipe.data.png import encode_stored
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.source import BadRecord, Source

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)


def record(image: bytes, label: int, name: str = "image") -> bytes:
    columns = {name: np.frombuffer(image, np.uint8)[None], "label": np.array([label])}
    return frame(encode(columns)).tobytes()


def source_of(path: Path, records: list[bytes]) -> Source:
    path.write_bytes(b"".join(records))
    return source([path], [len(records)])


def source(paths: list[Path], lengths: list[int]) -> Source:
    return Source(
        files=tuple(map(str, paths)),
        lengths=tuple(lengths),
        image="image",
        label="label",
        height=4,
        width=4,
        classes=3,
        hint="write it again",
    )


def read(source: Source) -> tuple[list[int], np.ndarray, list[BadRecord]]:
    bad: list[BadRecord] = []
    batches = list(source.read_slice(0, source.size, bad.append))
    images = np.concatenate([batch.images for batch in batches])
    return [int(n) for batch in batches for n in batch.numbers], images, bad


def test_every_kind_of_bad_record_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    good = [record(encode_stored(image), 2) for image in IMAGES]
    broken_png = bytearray(encode_stored(IMAGES[1]))
    broken_png[20] ^= 0xFF  # the width in its header
    flipped = bytearray(good[4])
    flipped[40] ^= 1
    records = [
        good[0],
        record(bytes(broken_png), 2),
        record(encode_stored(IMAGES[2]), 3),
        frame(np.full((1, 20), 7, np.uint8)).tobytes(),
        bytes(flipped),
        good[5],
        record(encode_stored(IMAGES[0]), 1, name="photo"),
    ]
    numbers, images, bad = read(source_of(tmp_path / "x.tfrecord", records))
    assert numbers == [0, 5]
    np.testing.assert_array_equal(images, IMAGES[[0, 5]])
    offsets = np.cumsum([0, *map(len, records)])
    assert sorted((b.record, b.offset) for b in bad) == [(i, offsets[i]) for i in (1, 2, 3, 4, 6)]
    reasons = {b.record: b.reason for b in bad}
    assert reasons[1].startswith("expected 4x4 pixels of 8-bit grey, received 4278190084x4")
    assert "expected a label in 0..2, received 3" in reasons[2]
    assert "expected a tf.Example" in reasons[3]
    assert "checksum" in reasons[4]
    assert reasons[6] == (
        "feature image: expected 1 string (a PNG), received no feature of this name but "
        "label (1 integer), photo (1 string)"
    )
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    assert {b.file for b in bad} == {"x.tfrecord"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data is incomplete: .*gone is missing"):
        read(source([tmp_path / "gone"], [3]))


def test_a_file_with_too_many_records_is_refused(tmp_path: Path) -> None:
    records = [record(encode_stored(image), 0) for image in IMAGES]
    path = tmp_path / "x.tfrecord"
    source_of(path, records)
    fewer = source([path], [5])
    with pytest.raises(DataError, match="expected 5 records, received 6"):
        read(fewer)


def test_a_surplus_record_of_another_length_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    source_of(path, [record(encode_stored(image), 0) for image in IMAGES[:2]])
    more = tmp_path / "more"
    source_of(more, [record(encode_stored(IMAGES[2]) + b"longer", 0)])
    path.write_bytes(path.read_bytes() + more.read_bytes())
    two = source([path], [2])
    with pytest.raises(DataError, match="expected 2 records, received 3: the file holds more"):
        read(two)


def test_slices_run_across_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    source_of(first, [record(encode_stored(image), 0) for image in IMAGES[:2]])
    source_of(second, [record(encode_stored(image), 1) for image in IMAGES[2:]])
    both = source([first, second], [2, 4])
    bad: list[BadRecord] = []
    batches = list(both.read_slice(1, 4, bad.append))
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), IMAGES[1:4])
    assert [int(label) for b in batches for label in b.labels] == [0, 1, 1]
    assert not bad


def cut_in_a_record(content: bytearray) -> None:
    del content[-10:]


def cut_in_a_header(content: bytearray) -> None:
    del content[-(len(content) // 6) + 5 :]


def flip_a_length(content: bytearray) -> None:
    content[2 * (len(content) // 6)] ^= 1


def cut_between_records(content: bytearray) -> None:
    del content[-2 * (len(content) // 6) :]


@pytest.mark.parametrize("slices", [1, 2, 3, 6])
@pytest.mark.parametrize(
    ("damage", "whole", "reason"),
    [
        (cut_in_a_record, 5, "the file is cut short at offset {end}: expected a record of"),
        (cut_in_a_header, 5, "the file is cut short at offset {end}: expected a record header"),
        (
            flip_a_length,
            2,
            "the file is damaged at offset {end}: the checksum of the record length",
        ),
        (cut_between_records, 4, "expected 6 records, received 4: the file is cut short"),
    ],
)
def test_the_unreadable_rest_of_a_file_is_counted_once(
    tmp_path: Path, damage: Callable[[bytearray], None], whole: int, reason: str, slices: int
) -> None:
    """However the file is handed out: what is read and what is lost make up all of it."""
    records = [record(encode_stored(image), 0) for image in IMAGES]
    path = tmp_path / "x.tfrecord"
    six = source_of(path, records)
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)
    end = whole * len(records[0])
    bad: list[BadRecord] = []
    numbers = []
    for i in range(slices):
        low, high = i * 6 // slices, (i + 1) * 6 // slices
        before, read_before = sum(b.records for b in bad), len(numbers)
        for batch in six.read_slice(low, high, bad.append):
            np.testing.assert_array_equal(batch.images, IMAGES[batch.numbers])
            numbers += batch.numbers.tolist()
        assert len(numbers) - read_before + sum(b.records for b in bad) - before == high - low
    assert numbers == list(range(whole))
    assert [n for b in bad for n in range(b.record, b.record + b.records)] == [*range(whole, 6)]
    assert {(b.file, b.offset) for b in bad} == {("x.tfrecord", end)}
    assert all(b.reason.startswith(reason.format(end=end)) for b in bad)
    assert b"".join(b.content for b in bad) == content[end:]
    if damage is flip_a_length:
        ending = "nothing behind it can be found, which counts as 4 records"
        assert all(b.reason.endswith(ending) for b in bad)


def test_bytes_behind_the_last_record_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    two = source_of(path, [record(encode_stored(image), 0) for image in IMAGES[:2]])
    path.write_bytes(path.read_bytes() + b"surplus")
    with pytest.raises(DataError, match=r"x\.tfrecord is cut short at offset \d+") as caught:
        read(two)
    assert caught.value.hint == "write it again"


def test_a_slice_looks_at_no_other_records(tmp_path: Path) -> None:
    """A damaged record belongs to one slice; the others step over it by its length."""
    records = [bytearray(record(encode_stored(image), 0)) for image in IMAGES]
    records[1][40] ^= 1
    bad: list[BadRecord] = []
    six = source_of(tmp_path / "x.tfrecord", [bytes(r) for r in records])
    (batch,) = six.read_slice(2, 5, bad.append)
    assert batch.numbers.tolist() == [2, 3, 4]
    assert not bad
    (batch,) = six.read_slice(0, 2, bad.append)
    assert batch.numbers.tolist() == [0]
    assert [b.record for b in bad] == [1]


def test_features_of_other_writers_are_left_alone(tmp_path: Path) -> None:
    """Several values, none, or of any kind: only the image and the label are looked at."""
    import tensorflow as tf

    lists = {
        "box": tf.train.Feature(int64_list=tf.train.Int64List(value=[4, 300, -1])),
        "tags": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a", b"long one"])),
        "nothing": tf.train.Feature(),
        "empty": tf.train.Feature(float_list=tf.train.FloatList()),
        "weights": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, 2.0])),
    }
    path = tmp_path / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i, image in enumerate(IMAGES):
            features = {name: lists[name] for name in sorted(lists)[: i + 1]} | {
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[encode_stored(image)])
                ),
                "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 3])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
        two = {"label": tf.train.Feature(int64_list=tf.train.Int64List(value=[1, 2]))}
        example = tf.train.Example(features=tf.train.Features(feature=features | two))
        writer.write(example.SerializeToString())
    numbers, images, bad = read(source([path], [7]))
    assert numbers == list(range(6))
    np.testing.assert_array_equal(images, IMAGES)
    ((record, reason),) = [(b.record, b.reason) for b in bad]
    assert record == 6
    assert reason == "feature label: expected 1 integer, received 2 integers"


PNG = encode_stored(IMAGES[0])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"image": ("int64", [*range(16)])}, "image: expected 1 string (a PNG or 16 bytes of "
         "pixels), received 16 integers"),
        ({"image": ("float", [0.5] * 16)}, "image: expected 1 string (a PNG or 16 bytes of "
         "pixels), received 16 floats"),
        ({"image": ("bytes", [PNG, PNG])}, "image: expected 1 string (a PNG or 16 bytes of "
         "pixels), received 2 strings"),
        ({"image": ("bytes", [])}, "image: expected 1 string (a PNG or 16 bytes of pixels), "
         "received 0 strings"),
        ({"label": ("int64", [0, 1, 0])}, "label: expected 1 integer, received 3 integers"),
        ({"label": ("float", [0.0, 1.0, 0.0])}, "label: expected 1 integer, received 3 floats"),
        ({"label": ("bytes", [b"ring"])}, "label: expected 1 integer, received 1 string"),
        ({"label": ("", [])}, "label: expected 1 integer, received 0 values"),
    ],
)  # fmt: skip
def test_the_feature_that_is_wrong_is_named_with_what_it_holds(
    tmp_path: Path, wrong: dict[str, tuple[str, list[Any]]], reason: str
) -> None:
    """Pixels as integers, one-hot labels, two images: other people's usual records."""
    import tensorflow as tf

    of = {"bytes": tf.train.BytesList, "float": tf.train.FloatList, "int64": tf.train.Int64List}
    features = {"image": ("bytes", [PNG]), "label": ("int64", [1])} | wrong
    made = {
        name: tf.train.Feature(**({f"{kind}_list": of[kind](value=values)} if kind else {}))
        for name, (kind, values) in features.items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()
    path = tmp_path / "x.tfrecord"
    path.write_bytes(frame(np.frombuffer(example, np.uint8)[None]).tobytes())
    bad: list[BadRecord] = []
    of_span = dataclasses.replace(source([path], [1]), raw=True)
    assert list(of_span.read_slice(0, 1, bad.append)) == []
    assert [b.reason for b in bad] == [f"feature {reason}"]
