"""Prepared TFDS data as batches of numpy arrays.

A `Source` says in plain values where a split's records lie, so that a Beam worker can read a slice
of it without TFDS or TensorFlow. The images come in TFDS's order; that order is what record ids
count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from data.errors import DataError
from data.examples import Batch, decode_run
from data.png import decode_any, decode_stored
from data.tfrecord import DamagedRecordError, Run, read_runs

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """One split of a prepared TFDS data set.

    Attributes:
        files: its TFRecord files, in order.
        lengths: number of records in each file.
        image: name of the image feature.
        label: name of the label feature.
        height: image height in pixels.
        width: image width in pixels.
        classes: number of classes.
    """

    files: tuple[str, ...]
    lengths: tuple[int, ...]
    image: str
    label: str
    height: int
    width: int
    classes: int

    @property
    def size(self) -> int:
        """Number of records."""
        return sum(self.lengths)


class BadRecord(NamedTuple):
    """A record that cannot be used: where it lies and why."""

    file: str
    offset: int
    record: int
    reason: str


class LabelledImages(NamedTuple):
    """A batch: numbers int64[N] in the split, images uint8[N, H, W], labels int64[N]."""

    numbers: Labels
    images: Images
    labels: Labels


OnBad = Callable[[BadRecord], None]


def read_slice(source: Source, start: int, stop: int, on_bad: OnBad) -> Iterator[LabelledImages]:
    """Reads records start to stop of a split, in batches of about 1,000.

    Args:
        source: the split.
        start: first index.
        stop: one behind the last index.
        on_bad: is told of every record that cannot be used; it may raise.

    Raises:
        DataError: a file is missing, cut short, or holds another number of records than TFDS wrote.
    """
    first = 0
    for name, length in zip(source.files, source.lengths, strict=True):
        low, high = max(start - first, 0), min(stop - first, length)
        if low < high:
            yield from _read_file(source, Path(name), low, high, length, first, on_bad)
        first += length


def _read_file(
    source: Source, path: Path, low: int, high: int, length: int, first: int, on_bad: OnBad
) -> Iterator[LabelledImages]:
    """Records low to high of one file whose first record has index `first` in the split."""
    if not path.is_file():
        raise DataError(f"prepared data is incomplete: {path} is missing", hint=_again(path))
    row = 0
    try:
        for run in read_runs(path):
            count = len(run.payload)
            if row + count > low and row < high:
                cut = _rows(run, max(low - row, 0), min(high - row, count))
                yield from _decode(source, cut, first + max(low, row), on_bad)
            row += count
            if row >= high:
                break
    except DamagedRecordError as error:
        raise DataError(error.headline, hint=_again(path)) from error
    if row < high or row > length:
        raise DataError(
            f"{path}: expected {length} records, received {row}: the file is cut short",
            hint=_again(path),
        )


def _decode(source: Source, run: Run, first: int, on_bad: OnBad) -> Iterator[LabelledImages]:
    """The good records of a run; the others are reported."""
    for row in run.damaged:
        reason = "the checksum of the record does not match its bytes"
        on_bad(BadRecord(run.path.name, run.offset_of(int(row)), first + int(row), reason))
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
            on_bad(BadRecord(run.path.name, run.offset, first, error.headline))
        return
    for images, labels in batches:
        yield LabelledImages(np.arange(first, first + len(labels)), images, labels)
        first += len(labels)


def _labelled(source: Source, batch: Batch) -> tuple[Images, Labels]:
    """The images and labels of a batch; raises DataError when one record is unusable."""
    where = f"{batch.path.name} at offset {batch.offset}"
    try:
        encoded, labels = batch.columns[source.image], batch.columns[source.label]
    except KeyError as error:
        raise DataError(
            f"{where}: expected the features {source.image} and {source.label}, "
            f"received {', '.join(sorted(batch.columns))}"
        ) from error
    wrong = (labels < 0) | (labels >= source.classes)
    if wrong.any():
        raise DataError(
            f"{where}: expected a label in 0..{source.classes - 1}, received {labels[wrong][0]}"
        )
    images = decode_stored(encoded, source.height, source.width)
    if images is None:
        try:
            images = np.stack(
                [decode_any(row.tobytes(), source.height, source.width) for row in encoded]
            )
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    return images, labels


def _rows(run: Run, start: int, stop: int) -> Run:
    inside = run.damaged[(run.damaged >= start) & (run.damaged < stop)] - start
    return dataclasses.replace(
        run, offset=run.offset_of(start), payload=run.payload[start:stop], damaged=inside
    )


def _again(path: Path) -> str:
    return f"delete {path.parent} and run again: it is prepared anew"
