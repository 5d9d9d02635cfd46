"""Statistics as tensorflow_metadata protos, which TFDV and Facets read.

Beside the features that the records hold, each split has the grey levels of its pixels and its
image statistics, marked as derived from `image` the way TFDV marks derived features. A split that
spans were added to has several data sets in its proto: the whole under TFDV's name for it, then
its parts `train/base`, `train/span-2026-11-20` and so on. Facets shows them side by side; TFDV
validates the whole, and `get_slice_stats` picks a part.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.statistics.image_statistics import BINS, STATISTICS, STEPS
from bnpipe.data.statistics.summary import BASE, Counts, FeatureSummary, SplitSummary

FILE_NAME = "FeatureStats.pb"
DERIVER = "image_statistics"
WHOLE = "All Examples"
"""TFDV's name for the whole in a proto that has slices too; it refuses to validate others."""

PIXELS = "pixels"
"""Name of the derived feature that holds the grey levels of all pixels."""

_TYPES = statistics_pb2.FeatureNameStatistics
_QUANTILES = 10


def write_statistics(
    info: DatasetInfo,
    target: Path,
    spans: Mapping[int, str],
    split: str,
    parts: Mapping[int, SplitSummary],
) -> None:
    """Writes one split's folder: the proto, and what a proto has no place for beside it.

    Args:
        info: the data set.
        target: the Statistics folder.
        spans: the names of spans by number.
        split: the split.
        parts: the summary of each span in it by number, 0 for the data set's own records.
    """
    folder = target / f"Split-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    whole = SplitSummary(info.height, info.width, info.classes)
    for _, part in sorted(parts.items()):
        whole.merge(part)
    whole.write(folder)
    sliced = bool(set(parts) - {0})
    datasets = [dataset_statistics(WHOLE if sliced else split, whole, info)]
    for number, part in sorted(parts.items()) if sliced else ():
        name = f"span-{spans.get(number, number)}" if number else BASE
        (folder / name).mkdir(exist_ok=True)
        part.write(folder / name)
        datasets.append(dataset_statistics(f"{split}/{name}", part, info))
    proto = statistics_pb2.DatasetFeatureStatisticsList(datasets=datasets)
    (folder / FILE_NAME).write_bytes(proto.SerializeToString(deterministic=True))


def dataset_statistics(name: str, summary: SplitSummary, info: DatasetInfo) -> Any:
    """The statistics of a split, or of a part of it, as a DatasetFeatureStatistics."""
    proto = statistics_pb2.DatasetFeatureStatistics(name=name, num_examples=summary.records)
    for path, feature in sorted(summary.features.items()):
        stats = proto.features.add()
        stats.path.step.append(path)
        _stored_feature(stats, feature, summary.records)
        if path == "image":
            _image(stats, summary)
        if path == "label" and stats.type == _TYPES.INT:
            _label(stats.num_stats, summary, info)
    if summary.images:
        _pixels(_derived(proto, PIXELS), summary)
    if summary.drawn:
        for row, statistic in enumerate(STATISTICS):
            _image_statistic(_derived(proto, statistic.name), summary, row)
    return proto


def _stored_feature(stats: Any, feature: FeatureSummary, records: int) -> None:
    """Fills in what any feature has; of mixed kinds the commonest counts."""
    kind = max(feature.kinds, key=lambda k: (feature.kinds[k], k))
    missing = records - feature.records
    if kind == "bytes":
        stats.type = _TYPES.BYTES
        lengths = stats.bytes_stats
        lengths.avg_num_bytes = sum(n * c for n, c in feature.lengths.items()) / feature.records
        lengths.min_num_bytes, lengths.max_num_bytes = min(feature.lengths), max(feature.lengths)
        lengths.max_num_bytes_int = max(feature.lengths)
        _common(lengths.common_stats, feature.records, missing, 1)
        return
    stats.type = _TYPES.FLOAT if kind == "float" else _TYPES.INT
    _common(stats.num_stats.common_stats, feature.records, missing, max(feature.lengths))
    if feature.low is not None and feature.high is not None:
        stats.num_stats.min, stats.num_stats.max = feature.low, feature.high
    if feature.nan:
        stats.num_stats.histograms.add(num_nan=feature.nan)
    if feature.non_finite > feature.nan:
        stats.custom_stats.add(name="infinite_values", num=feature.non_finite - feature.nan)


def _common(common: Any, present: int, missing: int, values: int) -> None:
    common.num_non_missing, common.num_missing = present, missing
    common.min_num_values = common.max_num_values = values
    common.avg_num_values = values
    common.tot_num_values = present * values


def _image(stats: Any, summary: SplitSummary) -> None:
    distinct = len(summary.hashes) - summary.duplicates
    if stats.type == _TYPES.BYTES:
        stats.bytes_stats.unique = distinct
    stats.custom_stats.add(name="constant_images", num=summary.constant)
    stats.custom_stats.add(name="distinct_images", num=distinct)
    stats.custom_stats.add(name="duplicate_images", num=summary.duplicates)


def _label(stats: Any, summary: SplitSummary, info: DatasetInfo) -> None:
    values = np.arange(len(summary.classes), dtype=np.float64)
    _moments(stats, values, summary.classes)
    histogram = stats.histograms.add(num_undefined=summary.outside)
    for value, count in zip(values.tolist(), summary.classes.tolist(), strict=True):
        histogram.buckets.add(low_value=value, high_value=value + 1.0, sample_count=count)
    histogram.name = ", ".join(info.label_names)


def _derived(proto: Any, name: str) -> Any:
    stats = proto.features.add()
    stats.path.step.append(name)
    stats.validation_derived_source.deriver_name = DERIVER
    stats.validation_derived_source.source_path.add().step.append("image")
    return stats


def _pixels(stats: Any, summary: SplitSummary) -> None:
    stats.type = _TYPES.INT
    numeric = stats.num_stats
    _common(numeric.common_stats, summary.images, 0, summary.height * summary.width)
    levels = np.arange(len(summary.pixels), dtype=np.float64)
    _moments(numeric, levels, summary.pixels)
    seen = np.flatnonzero(summary.pixels)
    numeric.min, numeric.max = float(levels[seen[0]]), float(levels[seen[-1]])
    _standard_histogram(numeric, np.append(levels, levels[-1] + 1), summary.pixels)


def _image_statistic(stats: Any, summary: SplitSummary, row: int) -> None:
    statistic, count = STATISTICS[row], summary.drawn
    stats.type = _TYPES.FLOAT
    numeric = stats.num_stats
    _common(numeric.common_stats, count, summary.records - count, 1)
    mean, square = int(summary.sums[row]) / count, int(summary.squares[row]) / count
    scale = (statistic.high - statistic.low) / STEPS
    numeric.mean = statistic.value(mean)
    numeric.std_dev = scale * max(square - mean * mean, 0.0) ** 0.5
    numeric.min = statistic.value(int(summary.low[row]))
    numeric.max = statistic.value(int(summary.high[row]))
    edges = np.linspace(statistic.low, statistic.high, BINS + 1)
    counts = summary.histograms[row]
    numeric.median = float(_quantiles(edges, counts, 2)[1])
    _standard_histogram(numeric, edges, counts)
    quantiles = _quantiles(edges, counts, _QUANTILES)
    histogram = numeric.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for low, high in zip(quantiles[:-1].tolist(), quantiles[1:].tolist(), strict=True):
        histogram.buckets.add(low_value=low, high_value=high, sample_count=count / _QUANTILES)


def _moments(stats: Any, values: npt.NDArray[np.float64], counts: Counts) -> None:
    """Mean, standard deviation, zeros and median of `counts[i]` values `values[i]`."""
    count = int(counts.sum())
    if not count:
        return
    stats.mean = float(values @ counts) / count
    stats.std_dev = float(np.sqrt(((values - stats.mean) ** 2) @ counts / count))
    stats.num_zeros = int(counts[values == 0].sum())
    stats.median = float(values[np.searchsorted(np.cumsum(counts), (count + 1) // 2)])


def _quantiles(edges: npt.NDArray[np.float64], counts: Counts, parts: int) -> Any:
    """The edges of equal parts of a histogram, linear within its bins; float64[parts + 1]."""
    seen = np.flatnonzero(counts)
    below = np.concatenate([[0], np.cumsum(counts[seen[0] : seen[-1] + 1])])
    return np.interp(np.linspace(0, below[-1], parts + 1), below, edges[seen[0] : seen[-1] + 2])


def _standard_histogram(stats: Any, edges: npt.NDArray[np.float64], counts: Counts) -> None:
    """A histogram of at most 64 bins of equal width; a viewer draws no more."""
    step = max(1, len(counts) // 64)
    histogram = stats.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    for start in range(0, len(counts), step):
        histogram.buckets.add(
            low_value=float(edges[start]),
            high_value=float(edges[start + step]),
            sample_count=int(counts[start : start + step].sum()),
        )
