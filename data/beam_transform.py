"""Beam transforms of transform: shards of images in, shards of scaled features out, one to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.preprocessing import PIXEL_MAX, flatten_and_scale
from bnpipe.data.records.examples import Batch, encode, read_batches
from bnpipe.data.records.shards import ShardWriter, UnitReport, read_shard, write_reports

PREFIX = "transformed_examples"
_COLUMNS = ("image", "label", "id", "span")
INK_BINS = 1 << 16
"""Resolution of the ink histogram that the quartiles are read from: 0.004 grey levels."""

_AGAIN = "run example_gen again: bnpipe run --force example_gen"

Counts = npt.NDArray[np.int64]


def transform(
    pipeline: Any, source: Path, target: Path, shards: Sequence[tuple[str, str, int]], reports: Path
) -> None:
    """Adds the whole transform to a Beam pipeline; `reports` is written when it has run.

    Args:
        pipeline: the Beam pipeline.
        source: the Examples folder.
        target: the TransformedExamples folder.
        shards: (path in source, path in target, expected number of records) of every shard.
        reports: a UnitReport per shard, with the ink cuts in it.

    Raises:
        DataError: `dataset.json` in `source` cannot be read.
    """
    info = DatasetInfo.read(source)
    train = [name for name, _, _ in shards if name.startswith("Split-train/")]
    cuts = (
        pipeline
        | "TrainShards" >> beam.Create(train)
        | "SpreadTrainShards" >> beam.Reshuffle()
        | "CountInk" >> beam.ParDo(CountInk(source))
        | "AddInk" >> beam.CombineGlobally(add_counts)
        | "CutInk" >> beam.Map(lambda counts: (ink_cuts(counts), int(counts.sum())))
    )
    written = (
        pipeline
        | "Shards" >> beam.Create(list(shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "ReadScaleWrite"
        >> beam.ParDo(TransformShard(source, target, info), beam.pvalue.AsSingleton(cuts))
    )
    _ = (
        written
        | "CollectReports" >> beam.combiners.ToList()
        | "WriteReports" >> beam.Map(write_reports, reports)
    )


def mean_ink(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean intensity of every image in [0, 1]; uint8[N, D] -> float64[N], exact sums."""
    ink: npt.NDArray[np.int64] = pixels.sum(axis=1, dtype=np.int64)
    return ink / (pixels.shape[1] * PIXEL_MAX)


def _are_images(column: npt.NDArray[Any]) -> bool:
    """True for a column of bytes, false for one of numbers."""
    return column.ndim == 2 and column.dtype == np.uint8


class CountInk(beam.DoFn):
    """Histogram of the mean intensity of a shard's images, int64[INK_BINS]."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def process(self, shard: str) -> Iterator[Counts]:
        """Handles one train shard; a damaged one is reported by TransformShard."""
        counts = np.zeros(INK_BINS, np.int64)
        try:
            for batch in read_batches(self._source / shard):
                if not _are_images(batch.columns["image"]):
                    continue  # TransformShard says what is wrong with them
                bins = (mean_ink(batch.columns["image"]) * (INK_BINS - 1)).astype(np.int64)
                counts += np.bincount(bins, minlength=INK_BINS)
        except (BnpipeError, OSError, KeyError):
            pass
        yield counts


def add_counts(histograms: Iterable[Counts]) -> Counts:
    """Adds histograms int64[INK_BINS]; of integers, so the order of merging cannot matter."""
    return sum(histograms, np.zeros(INK_BINS, np.int64))


def ink_cuts(counts: Counts) -> list[float]:
    """The three mean intensities that cut the train images into four equal parts.

    Args:
        counts: histogram of the mean intensities of the train images, int64[INK_BINS].
    """
    below = np.cumsum(counts)
    wanted = np.array([1, 2, 3]) * below[-1] / 4
    cuts: list[float] = ((np.searchsorted(below, wanted) + 1) / (INK_BINS - 1)).tolist()
    return cuts


class TransformShard(beam.DoFn):
    """Reads a shard, flattens, scales and adds slice columns, writes the shard: a UnitReport."""

    def __init__(self, source: Path, target: Path, info: DatasetInfo) -> None:
        self._source, self._target, self._info = source, target, info

    def process(
        self, shard: tuple[str, str, int], cut: tuple[list[float], int]
    ) -> Iterator[UnitReport]:
        """Handles one shard, given the ink cuts and the number of images that they are of."""
        name, result, expected = shard
        cuts, images = cut
        try:
            labels: set[int] = set()
            with ShardWriter(self._target, result) as writer:
                for batch in read_shard(self._source / name, expected):
                    self._write(batch, cuts, writer)
                    labels.update(np.unique(batch.columns["label"]).tolist())
            split = {f"{name.partition('/')[0]}/{label}": 1 for label in sorted(labels)}
            sizes = {result: writer.size}
            yield UnitReport(
                *(name, {result: writer.count}, split), cuts=cuts, cut_images=images, sizes=sizes
            )
        except (BnpipeError, OSError) as error:
            yield UnitReport.failed(name, error, hint=_AGAIN)

    def _write(self, batch: Batch, cuts: list[float], writer: ShardWriter) -> None:
        missing = [name for name in _COLUMNS if name not in batch.columns]
        if missing:
            raise DataError(
                f"{batch.path} at offset {batch.offset}: expected the features "
                f"{', '.join(_COLUMNS)}, received none named {missing[0]}"
            )
        pixels = batch.columns["image"]
        if not _are_images(pixels) or pixels.shape[1] != self._info.features:
            received = f"{pixels.shape[1]} bytes" if _are_images(pixels) else str(pixels.dtype)
            raise DataError(
                f"{batch.path} at offset {batch.offset}: expected an image of "
                f"{self._info.features} bytes, received {received}"
            )
        images = pixels.reshape(-1, self._info.height, self._info.width)
        columns = {
            "features": flatten_and_scale(images),
            "label": batch.columns["label"],
            "id": batch.columns["id"],
            "ink_quartile": np.searchsorted(np.array(cuts), mean_ink(pixels), side="right"),
            "span": batch.columns["span"],
        }
        writer.write(encode(columns))
