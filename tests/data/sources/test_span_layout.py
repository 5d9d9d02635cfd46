"""The folder of a span: label folders of PNG files or TFRecords, nothing else."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.png import encode_stored
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.image_folder import ImageFolder
from bnpipe.data.sources.source import BadRecord, Source
from bnpipe.data.sources.span_layout import span_sources
from bnpipe.data.sources.spans import Span

INFO = DatasetInfo("shapes", "1.0.0", 4, 3, ("dot", "T/shape", "ring"), {}, False)
PNG = encode_stored(np.zeros((4, 3), np.uint8))
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), np.uint8)


def write(folder: Path, name: str, content: bytes = PNG) -> Span:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return Span("3", 3, folder)


def records(images: np.ndarray) -> bytes:
    columns = {"image": images.reshape(len(images), -1), "label": np.arange(len(images)) % 3}
    return frame(encode(columns)).tobytes()


def test_label_folders_become_a_source_per_split(tmp_path: Path) -> None:
    for name in ("test/ring/a.png", "train/ring/a.png", "train/dot/b.png", "train/T_shape/c.png"):
        span = write(tmp_path, name)
    write(tmp_path, "train/ring/.hidden")
    write(tmp_path, "_SUCCESS")
    (tmp_path / "test" / "dot").mkdir()
    sources = span_sources(span, INFO)
    assert list(sources) == ["train", "test"]
    train, test = sources["train"], sources["test"]
    assert isinstance(train, ImageFolder)
    assert (train.labels, train.lengths) == ((0, 1, 2), (1, 1, 1))
    assert [Path(f).name for f in train.folders] == ["dot", "T_shape", "ring"]
    assert test.size == 1


def test_files_become_a_source_of_records(tmp_path: Path) -> None:
    write(tmp_path, "train/b.tfrecord", records(IMAGES[:2]))
    span = write(tmp_path, "train/a.tfrecord", records(IMAGES[2:]))
    source = span_sources(span, INFO)["train"]
    assert isinstance(source, Source)
    assert source.lengths == (3, 2)
    bad: list[object] = []
    (first, second) = source.read_slice(0, 5, bad.append)
    np.testing.assert_array_equal(first.images, IMAGES[2:])
    np.testing.assert_array_equal(second.labels, [0, 1])
    assert not bad


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("train/rign/a.png", r"expected a label of shapes \(dot, T_shape, ring\), .*rign"),
        ("validation/ring/a.png", "expected the folders train and test, received .*validation"),
        ("a.tfrecord", r"expected the folders train and test, received .*a\.tfrecord"),
        ("train/notes.txt", r"holds label folders, but also the file notes\.txt"),
        ("train/ring/more/a.png", "expected an image, received a folder"),
    ],
)
def test_another_layout_is_refused(tmp_path: Path, name: str, complaint: str) -> None:
    write(tmp_path, "train/dot/a.png")
    with pytest.raises(DataError, match=complaint) as caught:
        span_sources(write(tmp_path, name), INFO)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["10", "-1", "1.0", "Ring", "rign", "T-shape"])
def test_no_advice_changes_a_label(tmp_path: Path, name: str) -> None:
    """Whoever follows an advice like "did you mean 1?" for 10 trains on wrong labels."""
    digits = DatasetInfo("digits", "1.0.0", 4, 3, tuple("0123456789"), {}, False)
    info = INFO if name.isalpha() or "T" in name else digits
    with pytest.raises(DataError, match="expected a label of") as caught:
        span_sources(write(tmp_path, f"train/{name}/a.png"), info)
    assert caught.value.hint == f"rename it to its label, or to _{name}: it is left out"


def test_a_span_of_empty_folders_is_empty(tmp_path: Path) -> None:
    (tmp_path / "train" / "ring").mkdir(parents=True)
    with pytest.raises(DataError, match="span 3 is empty"):
        span_sources(Span("3", 3, tmp_path), INFO)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (records(IMAGES)[:7], r"a\.tfrecord is cut short at offset 0"),
        (b"not records, but some text", r"a\.tfrecord is damaged at offset 0"),
        (gzip.compress(records(IMAGES)), r"a\.tfrecord is compressed \(GZIP\): expected plain"),
        (zlib.compress(records(IMAGES)), r"a\.tfrecord is compressed \(ZLIB\): expected plain"),
        (zlib.compress(records(IMAGES), 1), r"a\.tfrecord is compressed \(ZLIB\): expected plain"),
    ],
)
def test_a_file_without_a_record_that_can_be_read_is_refused(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        span_sources(write(tmp_path, "test/a.tfrecord", content), INFO)
    assert "write span 3 again" in caught.value.hint


@pytest.mark.parametrize(("kept", "size"), [(4.2, 5), (3.0, 3), (1.1, 2)])
def test_a_file_that_is_cut_short_has_a_bad_record_more(
    tmp_path: Path, kept: float, size: int
) -> None:
    content = records(IMAGES)
    length = int(len(content) // 5 * kept)
    span = write(tmp_path, "train/a.tfrecord", content[:length])
    assert span_sources(span, INFO)["train"].size == size


def test_what_cannot_be_found_behind_a_damaged_length_counts_by_its_bytes(tmp_path: Path) -> None:
    content = bytearray(records(IMAGES))
    content[2 * (len(content) // 5)] ^= 1
    span = write(tmp_path, "train/a.tfrecord", bytes(content))
    source = span_sources(span, INFO)["train"]
    assert source.size == 5
    bad: list[BadRecord] = []
    (batch,) = source.read_slice(0, 5, bad.append)
    assert batch.numbers.tolist() == [0, 1]
    assert [(b.record, b.records, b.file) for b in bad] == [(2, 3, "a.tfrecord")]
