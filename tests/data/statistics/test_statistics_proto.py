"""Statistics as protos: what TFDV and Facets read is what numpy says."""

from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.statistics.statistics_proto import dataset_statistics
from bnpipe.data.statistics.summary import SplitSummary

INFO = DatasetInfo("toy", "1.0.0", 4, 4, ("a", "b", "c"), {"train": 100}, True)


def feature(proto: Any, name: str) -> Any:
    (stats,) = [f for f in proto.features if list(f.path.step) == [name]]
    return stats


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (100, 16)).astype(np.uint8),
        "label": rng.integers(0, 3, 100),
        "id": np.zeros((100, 5), np.uint8),
    }


@pytest.fixture(scope="module")
def proto(columns: dict[str, np.ndarray]) -> Any:
    summary = SplitSummary(4, 4, 3)
    summary.add(columns)
    return dataset_statistics("train", summary, INFO)


def test_labels_are_a_numeric_feature_with_a_bucket_per_class(
    proto: Any, columns: dict[str, np.ndarray]
) -> None:
    labels = columns["label"]
    stats = feature(proto, "label")
    assert stats.type == statistics_pb2.FeatureNameStatistics.INT
    numeric = stats.num_stats
    assert numeric.mean == pytest.approx(labels.mean())
    assert numeric.std_dev == pytest.approx(labels.std())
    assert (numeric.min, numeric.max) == (0, 2)
    assert numeric.num_zeros == (labels == 0).sum()
    assert numeric.median in np.sort(labels)[49:51]
    counts = [bucket.sample_count for bucket in numeric.histograms[0].buckets]
    assert counts == np.bincount(labels).tolist()
    assert numeric.common_stats.num_non_missing == 100


def test_images_are_bytes_of_known_length(proto: Any) -> None:
    stats = feature(proto, "image")
    assert stats.type == statistics_pb2.FeatureNameStatistics.BYTES
    assert stats.bytes_stats.min_num_bytes == stats.bytes_stats.max_num_bytes == 16
    assert stats.bytes_stats.unique == 100
    counts = {s.name: s.num for s in stats.custom_stats}
    assert counts == {"constant_images": 0, "distinct_images": 100, "duplicate_images": 0}


def test_derived_features_say_what_they_come_from(
    proto: Any, columns: dict[str, np.ndarray]
) -> None:
    images = columns["image"]
    pixels, ink = feature(proto, "pixels"), feature(proto, "ink")
    for stats in (pixels, ink):
        assert stats.validation_derived_source.source_path[0].step == ["image"]
    assert pixels.num_stats.mean == pytest.approx(images.mean())
    assert pixels.num_stats.std_dev == pytest.approx(images.std())
    assert pixels.num_stats.min == images.min()
    assert pixels.num_stats.max == images.max()
    inks = images.mean(axis=1)
    assert ink.num_stats.mean == pytest.approx(inks.mean(), abs=0.01)
    assert ink.num_stats.std_dev == pytest.approx(inks.std(), abs=0.01)
    assert ink.num_stats.median == pytest.approx(np.median(inks), abs=0.5)
    for histogram in ink.num_stats.histograms:
        total = sum(bucket.sample_count for bucket in histogram.buckets)
        assert total == pytest.approx(100)


def test_missing_values_are_counted(columns: dict[str, np.ndarray]) -> None:
    summary = SplitSummary(4, 4, 3)
    summary.add(columns)
    summary.add({"image": columns["image"][:20]})
    common = feature(dataset_statistics("train", summary, INFO), "label").num_stats.common_stats
    assert (common.num_non_missing, common.num_missing) == (100, 20)


def test_nan_and_infinity_are_told_apart() -> None:
    summary = SplitSummary(4, 4, 3)
    summary.add({"weight": np.array([[np.nan], [np.inf], [-np.inf], [1.0]], np.float32)})
    stats = feature(dataset_statistics("train", summary, INFO), "weight")
    assert [h.num_nan for h in stats.num_stats.histograms] == [1]
    assert {s.name: s.num for s in stats.custom_stats} == {"infinite_values": 2}


def test_an_empty_split_has_statistics_too() -> None:
    proto = dataset_statistics("test", SplitSummary(4, 4, 3), INFO)
    assert proto.num_examples == 0
    assert not proto.features
