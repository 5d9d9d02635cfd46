"""Statistics of a split, in numbers that can be added up: one pass over the data gives them.

A `SplitSummary` takes batches of decoded records and merges with others. All sums are sums of
integers, so batches and merges may come in any order and give the same bytes. A split that spans
were added to has a summary of each of its parts too: what the data set brought, and every span.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import listed
from bnpipe.data.preprocessing import PIXEL_MAX
from bnpipe.data.records.record_ids import as_numbers, content_hashes
from bnpipe.data.statistics.image_statistics import BINS, STATISTICS, STEPS, histograms, measure

Counts = npt.NDArray[np.int64]
Column = npt.NDArray[Any]

GREY_LEVELS = int(PIXEL_MAX) + 1
KINDS = {"u": "bytes", "f": "float", "i": "int"}
"""A feature's kind by the numpy kind of its column, as in `records.examples`."""

BASE = "base"
"""Name of the part of a split that is the data set's own, where spans were added to it."""

SUMMARY, ARRAYS = "summary.json", "arrays.npz"
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)
_NUMBERS = ("records", "images", "constant", "outside")
_BY_CLASS = ("class_drawn", "class_steps", "class_squares")
"""What files of before do not hold: read as nothing drawn, so that nothing is compared with it."""
_SUMS = ("pixels", "classes", "class_sums", "histograms", "sums", "squares", *_BY_CLASS)
_ARRAYS = (*_SUMS, "low", "high", "hashes", "labels")


@dataclass
class FeatureSummary:
    """One feature of the records.

    Attributes:
        kinds: number of records by kind: bytes, float or int.
        lengths: number of records by length: bytes of a bytes feature, else number of values.
        non_finite: values that are NaN or infinite.
        nan: values that are NaN.
        low: smallest finite number; None when there was none.
        high: largest finite number.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    non_finite: int = 0
    nan: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def records(self) -> int:
        """Number of records that have the feature."""
        return sum(self.kinds.values())

    def add(self, column: Column) -> None:
        """Takes one batch: uint8[N, k], float32[N, D] or int64[N]."""
        kind, count = KINDS[column.dtype.kind], len(column)
        length = column.shape[1] if column.ndim > 1 else 1
        part = FeatureSummary({kind: count}, {length: count})
        if kind != "bytes" and column.size:
            finite = column[np.isfinite(column)]
            part.non_finite = column.size - finite.size
            part.nan = int(np.isnan(column).sum())
            if finite.size:
                part.low, part.high = finite.min().item(), finite.max().item()
        self.merge(part)

    def merge(self, other: FeatureSummary) -> None:
        """Adds what another one has seen."""
        self.kinds = _added(self.kinds, other.kinds)
        self.lengths = _added(self.lengths, other.lengths)
        self.non_finite += other.non_finite
        self.nan += other.nan
        self.low = min((x for x in (self.low, other.low) if x is not None), default=None)
        self.high = max((x for x in (self.high, other.high) if x is not None), default=None)


def by_span(columns: Mapping[str, Column]) -> Iterator[tuple[int, Mapping[str, Column]]]:
    """A batch by the span of its records; 0 is the data set, and records without a span."""
    spans = columns.get("span")
    if spans is None or spans.dtype.kind != "i":
        yield 0, columns
        return
    for number in np.unique(spans).tolist():
        rows = spans == number
        yield number, columns if rows.all() else {k: c[rows] for k, c in columns.items()}


def _added(one: Mapping[Any, int], other: Mapping[Any, int]) -> dict[Any, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}


class SplitSummary:
    """The statistics of a split, or of a part of it.

    Attributes:
        height: height of an image in pixels.
        width: width of an image in pixels.
        records: number of records.
        images: number of records whose image has height * width bytes; the rest is in `features`.
        constant: images whose pixels are all equal.
        outside: labels that are not in [0, K).
        features: a FeatureSummary by feature name.
        pixels: how often each grey level occurs, int64[256].
        classes: number of records per class, int64[K].
        class_sums: sum of the images of each class, int64[K, height * width].
        histograms: of the image statistics, int64[S, BINS].
        sums: of the image statistics in steps, int64[S].
        squares: of the image statistics in steps squared, int64[S].
        class_drawn: number of images per class that are not blank, int64[K].
        class_steps: sums of their image statistics in steps, int64[K, S].
        class_squares: the same of the steps squared, int64[K, S].
        low: smallest value of each image statistic in steps, int64[S].
        high: largest value of each image statistic in steps, int64[S].
    """

    def __init__(self, height: int, width: int, classes: int) -> None:
        self.height, self.width = height, width
        self.records = self.images = self.constant = self.outside = 0
        self.features: dict[str, FeatureSummary] = {}
        self.pixels: Counts = np.zeros(GREY_LEVELS, np.int64)
        self.classes: Counts = np.zeros(classes, np.int64)
        self.class_sums: Counts = np.zeros((classes, height * width), np.int64)
        self.histograms: Counts = np.zeros((len(STATISTICS), BINS), np.int64)
        self.sums: Counts = np.zeros(len(STATISTICS), np.int64)
        self.squares: Counts = np.zeros(len(STATISTICS), np.int64)
        self.class_drawn: Counts = np.zeros(classes, np.int64)
        self.class_steps: Counts = np.zeros((classes, len(STATISTICS)), np.int64)
        self.class_squares: Counts = np.zeros((classes, len(STATISTICS)), np.int64)
        self.low: Counts = np.full(len(STATISTICS), STEPS, np.int64)
        self.high: Counts = np.zeros(len(STATISTICS), np.int64)
        self._hashed: list[tuple[npt.NDArray[np.uint64], Counts]] = []
        self._in_order = False

    def add(self, columns: Mapping[str, Column]) -> None:
        """Takes a batch of records.

        Args:
            columns: features by name: uint8[N, k], float32[N, D] or int64[N], as
                `records.examples` decodes them.
        """
        count = len(next(iter(columns.values())))
        self.records += count
        for name, column in columns.items():
            self.features.setdefault(name, FeatureSummary()).add(column)
        labels = columns.get("label")
        if labels is None or labels.dtype.kind != "i":
            labels = np.full(count, -1, np.int64)
        else:
            inside = labels[(labels >= 0) & (labels < len(self.classes))]
            self.classes += np.bincount(inside, minlength=len(self.classes))
            self.outside += count - len(inside)
        images = columns.get("image")
        if images is not None and images.dtype == np.uint8:
            self._hashed.append((as_numbers(content_hashes(images)), labels))
            self._in_order = False
            if images.shape[1] == self.height * self.width:
                self._add_images(np.ascontiguousarray(images), labels)

    def _add_images(self, pixels: npt.NDArray[np.uint8], labels: Counts) -> None:
        self.images += len(pixels)
        self.pixels += np.bincount(pixels.ravel(), minlength=GREY_LEVELS)
        brightest = pixels.max(axis=1)
        self.constant += int((pixels.min(axis=1) == brightest).sum())
        for label in np.unique(labels[(labels >= 0) & (labels < len(self.classes))]):
            self.class_sums[label] += pixels[labels == label].sum(axis=0, dtype=np.int64)
        steps = measure(pixels, self.height, self.width)
        if len(steps):
            self.histograms += histograms(steps)
            self.sums += steps.sum(axis=0)
            self.squares += (steps * steps).sum(axis=0)
            members = labels[brightest > 0] == np.arange(len(self.classes))[:, None]
            self.class_drawn += members.sum(axis=1)
            self.class_steps += members.astype(np.int64) @ steps
            self.class_squares += members.astype(np.int64) @ (steps * steps)
            self.low = np.minimum(self.low, steps.min(axis=0))
            self.high = np.maximum(self.high, steps.max(axis=0))

    def merge(self, other: SplitSummary) -> None:
        """Adds what another summary of the same kind of images has seen."""
        for name in (*_NUMBERS, *_SUMS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name, feature in other.features.items():
            self.features.setdefault(name, FeatureSummary()).merge(feature)
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)
        self._hashed.extend(other._hashed)
        self._in_order = False

    @property
    def drawn(self) -> int:
        """Number of images that are not blank, which the image statistics are about."""
        return int(self.histograms[0].sum())

    @property
    def duplicates(self) -> int:
        """Number of images that repeat an earlier one, pixel for pixel."""
        return len(self.hashes) - len(np.unique(self.hashes))

    @property
    def mean_level(self) -> float:
        """Mean grey level of all pixels; 0 when there are none."""
        levels = np.arange(GREY_LEVELS)
        return float(levels @ self.pixels) / max(int(self.pixels.sum()), 1)

    @property
    def class_means(self) -> npt.NDArray[np.float64]:
        """Mean image of every class, float64[K, height, width]; zeros for a class without any."""
        means = self.class_sums / np.maximum(self.classes, 1)[:, None]
        return means.reshape(-1, self.height, self.width)

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """Content hash of every image, ascending, uint64[N]."""
        return self._sorted_hashes()[0]

    @property
    def labels(self) -> Counts:
        """Labels in the order of `hashes`, int64[N]; -1 where there is none."""
        return self._sorted_hashes()[1]

    def _sorted_hashes(self) -> tuple[npt.NDArray[np.uint64], Counts]:
        if self._in_order:
            return self._hashed[0]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(h for h, _ in self._hashed)])
        labels = np.concatenate([np.zeros(0, np.int64), *(n for _, n in self._hashed)])
        order = np.lexsort((labels, hashes))
        self._hashed, self._in_order = [(hashes[order], labels[order])], True
        return self._hashed[0]

    def write(self, folder: Path) -> None:
        """Writes `summary.json` and `arrays.npz` into a folder; equal data gives equal bytes."""
        stored = {name: getattr(self, name) for name in ("height", "width", *_NUMBERS)}
        stored["features"] = {name: asdict(f) for name, f in self.features.items()}
        (folder / SUMMARY).write_text(json_text(stored, indent=2, sort_keys=True) + "\n")
        # Compressed: a small span has mostly empty histograms, and there may be hundreds.
        np.savez_compressed(folder / ARRAYS, **{name: getattr(self, name) for name in _ARRAYS})

    @classmethod
    def read(cls, folder: Path) -> SplitSummary:
        """Reads what `write` wrote.

        Raises:
            DataError: the files are missing or hold something else.
        """
        try:
            stored = json.loads((folder / SUMMARY).read_text())
            with (folder / ARRAYS).open("rb") as stream, np.load(stream) as file:
                named = [name for name in _ARRAYS if name in file or name not in _BY_CLASS]
                arrays = {name: file[name] for name in named}
            summary = cls(stored.pop("height"), stored.pop("width"), len(arrays["classes"]))
            summary.features = {
                name: FeatureSummary(
                    **f | {"lengths": {int(k): n for k, n in f["lengths"].items()}}
                )
                for name, f in stored.pop("features").items()
            }
            summary._hashed = [(arrays.pop("hashes"), arrays.pop("labels"))]
            for name, value in (stored | arrays).items():
                setattr(summary, name, value)
            return summary
        except _UNREADABLE as error:
            raise DataError(
                f"{folder} does not hold statistics: {type(error).__name__}: {error}",
                hint="run statistics_gen again: bnpipe run --force statistics_gen",
            ) from error


def read_parts(folder: Path) -> dict[str, SplitSummary]:
    """The parts of a split by name: `base`, then `span-<span>` from old to new.

    Empty where no span was added: the split has only itself.

    Raises:
        DataError: as `SplitSummary.read`.
    """
    # Numbers and dates alike: shorter names are earlier.
    present = (path.name for path in listed(folder) if (path / SUMMARY).exists())
    names = sorted(present, key=lambda name: (len(name), name))
    return {name: SplitSummary.read(folder / name) for name in names}
