"""TFRecord files of labelled images as batches of numpy arrays.

A `Source` says in plain values where a split's records lie, so that a Beam worker can read a slice
of it without TFDS or TensorFlow. The images come in the order of the files; that order is what
record ids count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.errors import DataError
from data.examples import Batch, decode_run
from data.png import are_png, decode_any, decode_stored
from data.tfrecord import DamagedRecordError, Run, read_runs

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """One split of a prepared TFDS data set, or of a span.

    Attributes:
        files: its TFRecord files, in order.
        lengths: number of records in each file.
        image: name of the image feature.
        label: name of the label feature.
        height: image height in pixels.
        width: image width in pixels.
        classes: number of classes.
        raw: whether images of H * W bytes that are no PNG are pixels, as they are in Examples.
        hint: what to do when a file is damaged.
    """

    files: tuple[str, ...]
    lengths: tuple[int, ...]
    image: str
    label: str
    height: int
    width: int
    classes: int
    raw: bool = False
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
            on_bad: is told of every record that cannot be used; it may raise.

        Raises:
            DataError: a file is missing, cut short, or holds another number of records than it
                should.
        """
        first = 0
        for name, length in zip(self.files, self.lengths, strict=True):
            low, high = max(start - first, 0), min(stop - first, length)
            if low < high:
                yield from _read_file(self, Path(name), low, high, length, first, on_bad)
            first += length


class BadRecord(NamedTuple):
    """A record that cannot be used.

    Attributes:
        file: the file that it lies in.
        offset: its first byte in the file.
        record: its number in the split.
        reason: what was expected and what was received.
        content: its bytes.
    """

    file: str
    offset: int
    record: int
    reason: str
    content: bytes


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


def _read_file(
    source: Source, path: Path, low: int, high: int, length: int, first: int, on_bad: OnBad
) -> Iterator[LabelledImages]:
    """Records low to high of one file whose first record has index `first` in the split."""
    if not path.is_file():
        raise DataError(f"the data is incomplete: {path} is missing", hint=source.hint)
    row = 0
    try:
        for run in read_runs(path):
            count = len(run.payload)
            if row + count > low and row < high:
                cut = _rows(run, max(low - row, 0), min(high - row, count))
                yield from _decode(source, cut, first + max(low, row), on_bad)
            row += count
            if row >= high and high < length:
                break  # the last slice reads on: what stands behind its records is no rest
    except DamagedRecordError as error:
        raise DataError(error.headline, hint=source.hint) from error
    if row < high or row > length:
        what = "is cut short" if row < high else "holds more than was counted"
        raise DataError(
            f"{path}: expected {length} records, received {row}: the file {what}", hint=source.hint
        )


def _decode(source: Source, run: Run, first: int, on_bad: OnBad) -> Iterator[LabelledImages]:
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


def _decode_sound(source: Source, run: Run, first: int, on_bad: OnBad) -> Iterator[LabelledImages]:
    """Decodes records whose checksums match; one that is no labelled image is reported."""
    try:
        batches = [_labelled(source, batch) for batch in decode_run(run)]
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


def _labelled(source: Source, batch: Batch) -> tuple[Images, Labels]:
    """The images and labels of a batch; raises DataError when one record is unusable."""
    encoded, labels = (batch.columns.get(name) for name in (source.image, source.label))
    if encoded is None or encoded.dtype != np.uint8 or labels is None or labels.dtype != np.int64:
        raise DataError(
            f"expected {source.image} as bytes and {source.label} as an integer, "
            f"received {_kinds(batch) or 'no feature'}"
        )
    wrong = (labels < 0) | (labels >= source.classes)
    if wrong.any():
        raise DataError(f"expected a label in 0..{source.classes - 1}, received {labels[wrong][0]}")
    return _pixels(source, encoded), labels


def _kinds(batch: Batch) -> str:
    kinds = {"u": "bytes", "i": "an integer", "f": "floats"}
    return ", ".join(f"{n} as {kinds[c.dtype.kind]}" for n, c in sorted(batch.columns.items()))


def _pixels(source: Source, encoded: Images) -> Images:
    """The images of equally long records; raises DataError when one of them is unusable."""
    height, width = source.height, source.width
    stored = decode_stored(encoded, height, width)
    if stored is not None:
        return stored
    if source.raw and encoded.shape[1] == height * width and not are_png(encoded).any():
        return encoded.reshape(-1, height, width)
    try:
        return np.stack([decode_any(row.tobytes(), height, width) for row in encoded])
    except ValueError as error:
        raise DataError(str(error)) from error


def _rows(run: Run, start: int, stop: int) -> Run:
    inside = run.damaged[(run.damaged >= start) & (run.damaged < stop)] - start
    return dataclasses.replace(
        run, offset=run.offset_of(start), payload=run.payload[start:stop], damaged=inside
    )
