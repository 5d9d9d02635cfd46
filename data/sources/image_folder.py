"""Folders of PNG files by label as batches of numpy arrays: TFDS's ImageFolder layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnpipe.data.errors import DataError
from bnpipe.data.plain_file import open_plain
from bnpipe.data.png import decode_png, largest_file
from bnpipe.data.sources.source import BadRecord, Images, ImageSource, LabelledImages, OnBad
from bnpipe.data.sources.spans import is_data

_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageSource):
    """One split: a folder of PNG files per label.

    Files come in label order; within a label shorter names come first, so 2.png precedes 10.png.

    Attributes:
        folders: the label folders, in label order.
        labels: the label of each folder.
    """

    folders: tuple[str, ...]
    labels: tuple[int, ...]

    def _read_piece(
        self, piece: int, low: int, high: int, first: int, on_bad: OnBad
    ) -> Iterator[LabelledImages]:
        folder, length = Path(self.folders[piece]), self.lengths[piece]
        names = image_names(folder)
        if len(names) != length:
            raise DataError(
                f"{folder}: expected {length} files, received {len(names)}", hint=self.hint
            )
        for at in range(low, high, _BATCH):
            batch = names[at : min(at + _BATCH, high)]
            yield from self._read(folder, batch, self.labels[piece], first + at, on_bad)

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
            with open_plain(path) as file:
                return file.read(largest_file(self.height, self.width) + 1)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}", hint=self.hint) from error


def image_names(folder: Path) -> list[str]:
    """The files of a label folder, in the order in which they are read.

    Raises:
        DataError: there is a folder among them.
        OSError: the folder cannot be read.
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
