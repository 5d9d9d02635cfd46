"""Folders of PNG files: the order they are read in, and files that cannot be used."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bnpipe.data.errors import DataError
from bnpipe.data.png import encode_stored, largest_file
from bnpipe.data.sources.image_folder import ImageFolder
from bnpipe.data.sources.source import BadRecord, LabelledImages

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 5), np.uint8)


def folder_of(path: Path, **labels: list[str]) -> ImageFolder:
    """Label folders with files that hold IMAGES one after the other."""
    images = iter(IMAGES)
    for label, names in labels.items():
        (path / label).mkdir()
        for name in names:
            Image.fromarray(next(images)).save(path / label / name, "PNG")
    return counted(path)


def counted(path: Path) -> ImageFolder:
    folders = sorted(path.iterdir())
    lengths = tuple(len(list(f.iterdir())) for f in folders)
    labels = tuple(range(len(folders)))
    return ImageFolder(
        folders=tuple(map(str, folders)),
        labels=labels,
        lengths=lengths,
        height=6,
        width=5,
        hint="write it again",
    )


def read(
    source: ImageFolder, start: int, stop: int
) -> tuple[list[LabelledImages], list[BadRecord]]:
    bad: list[BadRecord] = []
    return list(source.read_slice(start, stop, bad.append)), bad


def test_files_come_in_label_order_shorter_names_first(tmp_path: Path) -> None:
    source = folder_of(tmp_path, a=["2.png", "10.png"], b=["1.png"])
    (first, second), bad = read(source, 0, 3)
    assert not bad
    assert first.names == [b"a/2.png", b"a/10.png"]
    np.testing.assert_array_equal(first.images, IMAGES[:2])
    assert first.numbers.tolist() == [0, 1]
    assert (second.names, second.labels.tolist()) == ([b"b/1.png"], [1])
    (cut,), _ = read(source, 1, 2)
    assert cut.names == [b"a/10.png"]


def kind(width: int, height: int, depth: int, color: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return encode_stored(IMAGES[0])[:12] + b"IHDR" + head + crc


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected a PNG image, received 0 bytes"),
        (b"\xff\xd8\xff\xe0 a JPEG", "expected a PNG image"),
        (kind(60000, 60000, 8, 0), "expected 6x5 pixels of 8-bit grey, received 60000x60000"),
        (kind(5, 6, 16, 0), "received 6x5 of 16-bit grey"),
        (kind(5, 6, 1, 0), "received 6x5 of 1-bit grey"),
        (kind(5, 6, 8, 2), "received 6x5 of 8-bit RGB"),
        (kind(5, 6, 8, 3), "received 6x5 of 8-bit palette"),
        (kind(5, 6, 8, 9), "received 6x5 of 8-bit color type 9"),
        (kind(5, 6, 8, 0), "it is cut short after 33 bytes"),
        (encode_stored(IMAGES[0])[:-30], "it is cut short after"),
        (encode_stored(IMAGES[0]) + bytes(1 << 20), "expected a PNG image of at most"),
    ],
)
def test_a_file_that_is_no_such_png_is_reported_before_it_is_decoded(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    folder_of(tmp_path, a=["1.png", "2.png", "3.png"])
    (tmp_path / "a" / "2.png").write_bytes(content)
    (batch,), (bad,) = read(counted(tmp_path), 0, 3)
    assert batch.numbers.tolist() == [0, 2]
    assert batch.names == [b"a/1.png", b"a/3.png"]
    assert bad[:3] == ("a/2.png", 0, 1)
    assert bad.reason.startswith("expected ")
    assert reason in bad.reason


def test_damaged_files_are_never_more_than_reported(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(buffer, "PNG")
    rng = np.random.default_rng(1)
    (tmp_path / "a").mkdir()
    for i in range(300):
        content = bytearray(buffer.getvalue())
        for at in rng.integers(8, len(content), 3):
            content[at] = rng.integers(256)
        (tmp_path / "a" / f"{i}.png").write_bytes(content[: rng.integers(1, len(content) + 1)])
    batches, bad = read(counted(tmp_path), 0, 300)
    assert sum(len(batch.images) for batch in batches) + len(bad) == 300
    assert len(bad) > 250


def test_a_folder_that_has_changed_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, a=["1.png", "2.png"])
    (tmp_path / "a" / "3.png").touch()
    with pytest.raises(DataError, match="expected 2 files, received 3"):
        read(source, 0, 2)


def test_metadata_fits_into_the_largest_file() -> None:
    assert len(encode_stored(IMAGES[0])) + (1 << 14) <= largest_file(6, 5)
