"""Folders of PNG files by label as batches of numpy arrays: TFDS's ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.errors import DataError
from data.png import decode_png, largest_file
from data.source import BadRecord, Images, LabelledImages, OnBad
from data.spans import is_data

_BATCH = 1000


@dataclass(frozen=True)
class ImageFolder:
    """One split: a folder of PNG files per label.

    Files come in label order; within a label shorter names come first, so 2.png precedes 10.png.

    Attributes:
        folders: the label folders, in label order.
        labels: the label of each folder.
        lengths: number of files in each folder.
        height: image height in pixels.
        width: image width in pixels.
        hint: what to do when a file is missing.
    """

    folders: tuple[str, ...]
    labels: tuple[int, ...]
    lengths: tuple[int, ...]
    height: int
    width: int
    hint: str = ""

    @property
    def size(self) -> int:
        """Number of files."""
        return sum(self.lengths)

    def read_slice(self, start: int, stop: int, on_bad: OnBad) -> Iterator[LabelledImages]:
        """Reads files start to stop of the split, in batches of at most 1,000.

        Args:
            start: first index.
            stop: one behind the last index.
            on_bad: is told of every file that cannot be used; it may raise.

        Raises:
            DataError: a folder holds another number of files than when it was counted.
        """
        first = 0
        for folder, label, length in zip(self.folders, self.labels, self.lengths, strict=True):
            low, high = max(start - first, 0), min(stop - first, length)
            if low < high:
                names = image_names(Path(folder))
                if len(names) != length:
                    raise DataError(
                        f"{folder}: expected {length} files, received {len(names)}", hint=self.hint
                    )
                for at in range(low, high, _BATCH):
                    batch = names[at : min(at + _BATCH, high)]
                    yield from self._read(Path(folder), batch, label, first + at, on_bad)
            first += length

    def _read(
        self, folder: Path, names: list[str], label: int, first: int, on_bad: OnBad
    ) -> Iterator[LabelledImages]:
        """The files of one folder; `first` is the number of the first one in the split."""
        images: list[Images] = []
        numbers: list[int] = []
        for number, name in enumerate(names, first):
            content = self._content(folder / name)
            try:
                images.append(decode_png(content, self.height, self.width))
                numbers.append(number)
            except ValueError as error:
                on_bad(BadRecord(f"{folder.name}/{name}", 0, number, str(error), content))
        if images:
            labels = np.full(len(images), label, np.int64)
            called = [os.fsencode(f"{folder.name}/{names[n - first]}") for n in numbers]
            yield LabelledImages(np.array(numbers), np.stack(images), labels, called)

    def _content(self, path: Path) -> bytes:
        """A file's bytes, but hardly more than an image may have."""
        try:
            with path.open("rb") as file:
                return file.read(largest_file(self.height, self.width) + 1)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", hint=self.hint) from error


def image_names(folder: Path) -> list[str]:
    """The files of a label folder, in the order in which they are read.

    Raises:
        DataError: there is a folder among them.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_data(entry.name):
                if entry.is_dir():
                    raise DataError(
                        f"{entry.path}: expected an image, received a folder",
                        hint="the layout is <split>/<label>/*.png; folders that begin with _ are "
                        "left alone",
                    )
                names.append(entry.name)
    return sorted(names, key=lambda name: (len(os.fsencode(name)), name))
