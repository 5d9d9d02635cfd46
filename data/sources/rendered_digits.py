"""`rendered_digits`, our own data set: digits that `digit_renderer.py` draws when they are read.

It is for tests, offline demonstrations, scale measurements and drift, and is never passed off as
MNIST: its name is in every record id, artifact and report. Nothing is prepared, so that the worker
that gets a slice draws it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.sources.checksums import RENDERED
from bnpipe.data.sources.digit_renderer import CHUNK, SIZE, draw_chunk
from bnpipe.data.sources.source import ImageSource, LabelledImages, OnBad

DEFAULT_SIZE = 12_000
VERSION = "1.0.0"


@dataclass(frozen=True, kw_only=True)
class RenderedDigits(ImageSource):
    """One split of drawn digits; image i depends on split, seed and i only.

    Attributes:
        split: the split.
        seed: what it is drawn from.
    """

    split: str
    seed: int

    def _read_piece(
        self, piece: int, low: int, high: int, first: int, on_bad: OnBad
    ) -> Iterator[LabelledImages]:
        for start in range(low - low % CHUNK, high, CHUNK):
            images, labels = draw_chunk(self.seed, self.split, start // CHUNK)
            rows = slice(max(low - start, 0), min(high - start, CHUNK))
            numbers = np.arange(start, start + CHUNK)[rows]
            yield LabelledImages(numbers, images[rows], labels[rows])


def rendered(size: int | None, seed: int) -> tuple[DatasetInfo, dict[str, RenderedDigits]]:
    """The data set of `size` digits (by default 12,000), a sixth in test, and its sources."""
    size = DEFAULT_SIZE if size is None else size
    splits = {"train": size - size // 6, "test": size // 6}
    sources = {
        split: RenderedDigits(lengths=(count,), height=SIZE, width=SIZE, split=split, seed=seed)
        for split, count in splits.items()
    }
    names = tuple(map(str, range(10)))
    return DatasetInfo(RENDERED, VERSION, SIZE, SIZE, names, splits, synthetic=True), sources
