"""TFRecord files of labelled images as batches of numpy arrays.

A `Source` says in plain values where a split's records lie, so that a Beam worker can read a slice
of it without TFDS or TensorFlow. The images come in the order of the files; that order is what
record ids count.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError
from bnpipe.data.plain_file import open_plain
from bnpipe.data.png import SIGNATURE, decode_any, decode_stored
from bnpipe.data.records.examples import Batch, as_strings, decode_run, describe
from bnpipe.data.records.tfrecord import BrokenFramingError, RecordRun, count_records, read_runs

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

_KEPT_OF_REST = 1 << 26
"""The most bytes of the unreadable rest of a file that go to quarantine."""


@dataclass(frozen=True, kw_only=True)
class ImageSource(ABC):
    """One split of labelled images, in several pieces that are read in order.

    Attributes:
        lengths: number of records in each piece.
        height: image height in pixels.
        width: image width in pixels.
        hint: what to do when a piece is missing or damaged.
    """

    lengths: tuple[int, ...]
    height: int
    width: int
    hint: str = ""

    @property
    def size(self) -> int:
        """Number of records."""
        return sum(self.lengths)

    def read_slice(self, start: int, stop: int, on_bad: OnBad) -> Iterator[LabelledImages]:
        """Reads records start to stop of the split, in batches of about 1,000.

        Args:
            start: first index.
            stop: one behind the last index.
            on_bad: called with every record that cannot be used; it may raise.

        Yields:
            the images uint8[N, H, W] with their labels int64[N].

        Raises:
            DataError: a piece is missing, or holds more or other records than when it was counted.
        """
        first = 0
        for piece, length in enumerate(self.lengths):
            low, high = max(start - first, 0), min(stop - first, length)
            if low < high:
                yield from self._read_piece(piece, low, high, first, on_bad)
            first += length

    @abstractmethod
    def _read_piece(
        self, piece: int, low: int, high: int, first: int, on_bad: OnBad
    ) -> Iterator[LabelledImages]:
        """Records low to high of one piece, whose first record is number `first` of the split."""


@dataclass(frozen=True, kw_only=True)
class Source(ImageSource):
    """One split of a prepared TFDS data set, or of a span: TFRecord files.

    Attributes:
        files: its TFRecord files, in order.
        image: name of the image feature.
        label: name of the label feature.
        classes: number of classes.
        raw: whether images of H * W bytes that are no PNG are pixels, as they are in Examples.
    """

    files: tuple[str, ...]
    image: str
    label: str
    classes: int
    raw: bool = False

    def _read_piece(
        self, piece: int, low: int, high: int, first: int, on_bad: OnBad
    ) -> Iterator[LabelledImages]:
        path, length = Path(self.files[piece]), self.lengths[piece]
        if not path.is_file():
            raise DataError(f"the data is incomplete: {path} is missing", hint=self.hint)
        row = low
        try:
            for run in read_runs(path, skip=low):
                if row < high:
                    yield from _decode(self, _rows(run, 0, high - row), first + row, on_bad)
                row += len(run.payload)
                if row >= high and high < length:
                    return  # what is wrong behind its records the last slice reports
        except BrokenFramingError as error:
            if error.row >= length:
                raise DataError(error.headline, hint=self.hint) from error
            on_bad(_rest(path, error, low, high, length, first))
        else:
            if row < high:
                on_bad(_missing(path, low, high, length, first))
        if row > length:
            raise DataError(
                f"{path}: expected {length} records, received {row}: the file holds more than was "
                "counted",
                hint=self.hint,
            )


class BadRecord(NamedTuple):
    """A record that cannot be used.

    Attributes:
        file: the file that it lies in.
        offset: its first byte in the file.
        record: its number in the split.
        reason: what was expected and what was received.
        content: its bytes.
        records: how many it counts as: of a file that is broken, the rest is one piece.
    """

    file: str
    offset: int
    record: int
    reason: str
    content: bytes
    records: int = 1


class LabelledImages(NamedTuple):
    """A batch.

    Attributes:
        numbers: int64[N], which records of the split these are.
        images: uint8[N, H, W].
        labels: int64[N].
        names: what the records are called; None when they are called by their numbers.
    """

    numbers: Labels
    images: Images
    labels: Labels
    names: Sequence[bytes] | None = None


OnBad = Callable[[BadRecord], None]


def _rest(
    path: Path, error: BrokenFramingError, low: int, high: int, length: int, first: int
) -> BadRecord:
    """The records that a slice loses of a file that cannot be read to its end."""
    row, lost = max(error.row, low), length - error.row
    reason = error.headline.replace(str(path), "the file", 1)
    if lost > 1:
        reason += f"; nothing behind it can be found, which counts as {lost} records"
    content = b""  # the bytes go to the slice that they begin in
    if row == error.row:
        with open_plain(path) as file:
            file.seek(error.offset)
            content = file.read(_KEPT_OF_REST)
    return BadRecord(path.name, error.offset, first + row, reason, content, high - row)


def _missing(path: Path, low: int, high: int, length: int, first: int) -> BadRecord:
    """The records that a slice loses of a file that ends between two records, but too early."""
    received = count_records(path)
    row = max(received, low)
    reason = f"expected {length} records, received {received}: the file is cut short"
    return BadRecord(path.name, path.stat().st_size, first + row, reason, b"", high - row)


def _decode(source: Source, run: RecordRun, first: int, on_bad: OnBad) -> Iterator[LabelledImages]:
    """The good records of a run; the others are reported."""
    for row in run.damaged:
        reason = "the checksum of the record does not match its bytes"
        offset, content = run.offset_of(int(row)), run.payload[row].tobytes()
        on_bad(BadRecord(run.path.name, offset, first + int(row), reason, content))
    edges = [-1, *run.damaged.tolist(), len(run.payload)]
    for before, after in pairwise(edges):
        if after - before > 1:
            yield from _decode_sound(
                source, _rows(run, before + 1, after), first + before + 1, on_bad
            )


def _decode_sound(
    source: Source, run: RecordRun, first: int, on_bad: OnBad
) -> Iterator[LabelledImages]:
    """Decodes records whose checksums match; one that is no labelled image is reported."""
    try:
        batches = [_labelled(source, batch, run) for batch in decode_run(run)]
    except DataError as error:
        if len(run.payload) > 1:
            for row in range(len(run.payload)):
                yield from _decode_sound(source, _rows(run, row, row + 1), first + row, on_bad)
        else:
            # The folder is this machine's; quarantined records say the same on all of them.
            reason = error.headline.removeprefix(f"{run.path} at offset {run.offset}: ")
            content = run.payload[0].tobytes()
            on_bad(BadRecord(run.path.name, run.offset, first, reason, content))
        return
    for images, labels in batches:
        yield LabelledImages(np.arange(first, first + len(labels)), images, labels)
        first += len(labels)


def _labelled(source: Source, batch: Batch, run: RecordRun) -> tuple[Images, Labels]:
    """The images and labels of a batch; raises DataError when one record is unusable."""
    encoded, labels = (batch.columns.get(name) for name in (source.image, source.label))
    if encoded is None or encoded.dtype != np.uint8:
        pixels = f" or {source.height * source.width} bytes of pixels" if source.raw else ""
        raise _wrong_feature(source.image, f"1 string (a PNG{pixels})", run)
    if labels is None or labels.dtype != np.int64:
        raise _wrong_feature(source.label, "1 integer", run)
    wrong = (labels < 0) | (labels >= source.classes)
    if wrong.any():
        raise DataError(f"expected a label in 0..{source.classes - 1}, received {labels[wrong][0]}")
    return _pixels(source, encoded), labels


def _wrong_feature(name: str, expected: str, run: RecordRun) -> DataError:
    """The error for a feature of another type or number; the run's first record is looked at."""
    held = describe(run.payload[0].tobytes())
    others = ", ".join(f"{other} ({value})" for other, value in sorted(held.items()))
    received = held.get(name) or f"no feature of this name but {others or 'none at all'}"
    return DataError(f"feature {name}: expected {expected}, received {received}")


def _pixels(source: Source, encoded: Images) -> Images:
    """The images of equally long records; raises DataError when one of them is unusable."""
    height, width = source.height, source.width
    stored = decode_stored(encoded, height, width)
    if stored is not None:
        return stored
    has_all_pixels = source.raw and encoded.shape[1] == height * width
    if has_all_pixels and not np.char.startswith(as_strings(encoded), SIGNATURE).any():
        return encoded.reshape(-1, height, width)
    try:
        return np.stack([decode_any(row.tobytes(), height, width) for row in encoded])
    except ValueError as error:
        raise DataError(str(error)) from error


def _rows(run: RecordRun, start: int, stop: int) -> RecordRun:
    inside = run.damaged[(run.damaged >= start) & (run.damaged < stop)] - start
    return dataclasses.replace(
        run, offset=run.offset_of(start), payload=run.payload[start:stop], damaged=inside
    )
