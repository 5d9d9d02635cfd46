"""Prepared data that is not as it should be: every record is read or reported with its offset."""

from pathlib import Path

import numpy as np
import pytest

from data.errors import DataError
from data.examples import encode
from data.png import encode_stored
from data.source import BadRecord, Source
from data.tfrecord import frame

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4), np.uint8)


def record(image: bytes, label: int, name: str = "image") -> bytes:
    columns = {name: np.frombuffer(image, np.uint8)[None], "label": np.array([label])}
    return frame(encode(columns)).tobytes()


def source_of(path: Path, records: list[bytes]) -> Source:
    path.write_bytes(b"".join(records))
    return Source((str(path),), (len(records),), "image", "label", 4, 4, 3)


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
        "expected image as bytes and label as an integer, "
        "received label as an integer, photo as bytes"
    )
    assert not any(str(tmp_path) in reason for reason in reasons.values())
    assert {b.file for b in bad} == {"x.tfrecord"}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = Source((str(tmp_path / "gone"),), (3,), "image", "label", 4, 4, 3)
    with pytest.raises(DataError, match=r"the data is incomplete: .*gone is missing"):
        read(source)


def test_a_file_with_too_many_records_is_refused(tmp_path: Path) -> None:
    records = [record(encode_stored(image), 0) for image in IMAGES]
    path = tmp_path / "x.tfrecord"
    source_of(path, records)
    fewer = Source((str(path),), (5,), "image", "label", 4, 4, 3)
    with pytest.raises(DataError, match="expected 5 records, received 6"):
        read(fewer)


def test_a_surplus_record_of_another_length_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    source_of(path, [record(encode_stored(image), 0) for image in IMAGES[:2]])
    more = tmp_path / "more"
    source_of(more, [record(encode_stored(IMAGES[2]) + b"longer", 0)])
    path.write_bytes(path.read_bytes() + more.read_bytes())
    two = Source((str(path),), (2,), "image", "label", 4, 4, 3)
    with pytest.raises(DataError, match="expected 2 records, received 3: the file holds more"):
        read(two)


def test_slices_run_across_files(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    source_of(first, [record(encode_stored(image), 0) for image in IMAGES[:2]])
    source_of(second, [record(encode_stored(image), 1) for image in IMAGES[2:]])
    both = Source((str(first), str(second)), (2, 4), "image", "label", 4, 4, 3)
    bad: list[BadRecord] = []
    batches = list(both.read_slice(1, 4, bad.append))
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), IMAGES[1:4])
    assert [int(label) for b in batches for label in b.labels] == [0, 1, 1]
    assert not bad
