"""Statistics of a split: equal to numpy's over the whole, whatever the batches and their order."""

import json
from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.errors import DataError
from bnpipe.data.statistics.image_statistics import STATISTICS
from bnpipe.data.statistics.summary import SplitSummary, by_span

HEIGHT, WIDTH, CLASSES = 9, 7, 4


def records(count: int = 500, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, HEIGHT * WIDTH)).astype(np.uint8)
    images[rng.random(images.shape) < 0.5] = 0
    return {"image": images, "label": rng.integers(0, CLASSES, count)}


def summary_of(*batches: dict[str, np.ndarray]) -> SplitSummary:
    summary = SplitSummary(HEIGHT, WIDTH, CLASSES)
    for batch in batches:
        summary.add(batch)
    return summary


def part(columns: dict[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    return {name: column[start:stop] for name, column in columns.items()}


def written(summary: SplitSummary, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    summary.write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_counts_and_sums_are_those_of_numpy() -> None:
    columns = records()
    images, labels = columns["image"], columns["label"]
    summary = summary_of(columns)
    assert summary.records == summary.images == len(images)
    np.testing.assert_array_equal(summary.pixels, np.bincount(images.ravel(), minlength=256))
    np.testing.assert_array_equal(summary.classes, np.bincount(labels))
    assert summary.mean_level == pytest.approx(images.mean())
    for label in range(CLASSES):
        mean = images[labels == label].mean(axis=0).reshape(HEIGHT, WIDTH)
        np.testing.assert_allclose(summary.class_means[label], mean)


def test_image_statistics_are_those_of_numpy() -> None:
    images = records()["image"].reshape(-1, HEIGHT, WIDTH).astype(np.float64)
    row = (np.arange(HEIGHT)[:, None] + 0.5) / HEIGHT * np.ones((1, WIDTH))
    column = (np.arange(WIDTH) + 0.5) / WIDTH * np.ones((HEIGHT, 1))
    expected = []
    for image in images:
        weights = image.ravel() / image.sum()
        covariance = np.cov(row.ravel(), column.ravel(), aweights=weights, ddof=0)
        spread = np.sqrt(np.diag(covariance))
        expected.append(
            [
                image.mean(),
                image[image > 0].mean(),
                (image > 0).mean(),
                weights @ row.ravel(),
                weights @ column.ravel(),
                *spread,
                covariance[0, 1] / spread.prod(),
            ]
        )
    summary = summary_of(records())
    for i, statistic in enumerate(STATISTICS):
        values = np.array(expected)[:, i]
        step = (statistic.high - statistic.low) / 65536
        mean = statistic.value(summary.sums[i] / summary.drawn)
        assert mean == pytest.approx(values.mean(), abs=step)
        assert statistic.value(summary.low[i]) == pytest.approx(values.min(), abs=step)
        assert statistic.value(summary.high[i]) == pytest.approx(values.max(), abs=step)
        counts, _ = np.histogram(values, bins=1024, range=(statistic.low, statistic.high))
        # A value that lies within rounding of a bin's edge may fall on its other side.
        assert np.abs(np.cumsum(counts) - np.cumsum(summary.histograms[i])).max() <= 2


def test_image_statistics_by_class_are_those_of_the_images_that_are_not_blank() -> None:
    columns = records()
    columns["image"][::7] = 0
    columns["label"][3] = CLASSES
    summary, labels = summary_of(columns), columns["label"]
    for label in range(CLASSES):
        chosen = labels == label
        alone = summary_of({name: column[chosen] for name, column in columns.items()})
        assert summary.class_drawn[label] == alone.drawn
        np.testing.assert_array_equal(summary.class_steps[label], alone.sums)
        np.testing.assert_array_equal(summary.class_squares[label], alone.squares)


def test_order_of_batches_and_merges_does_not_change_a_byte(tmp_path: Path) -> None:
    columns = records()
    whole = written(summary_of(columns), tmp_path / "whole")
    a, b, c = part(columns, 0, 7), part(columns, 7, 300), part(columns, 300, 500)
    merged = summary_of(c)
    merged.merge(summary_of())
    merged.merge(summary_of(b, a))
    assert written(merged, tmp_path / "merged") == whole


def test_merging_leaves_the_other_summary_as_it_was(tmp_path: Path) -> None:
    other = summary_of(records(seed=1))
    before = written(other, tmp_path / "before")
    total = summary_of(records())
    total.merge(other)
    total.add(records(seed=2))
    assert written(other, tmp_path / "after") == before


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    columns = records() | {"weight": np.ones((500, 1), np.float32)}
    first = written(summary_of(columns), tmp_path / "first")
    assert written(SplitSummary.read(tmp_path / "first"), tmp_path / "second") == first


def test_a_folder_without_statistics_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not hold statistics") as caught:
        SplitSummary.read(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 10, 1000, -40])
def test_statistics_that_are_cut_short_are_named(tmp_path: Path, length: int) -> None:
    summary_of(records()).write(tmp_path)
    arrays = tmp_path / "arrays.npz"
    arrays.write_bytes(arrays.read_bytes()[:length])
    with pytest.raises(DataError, match="does not hold statistics"):
        SplitSummary.read(tmp_path)


def test_damaged_statistics_are_named(tmp_path: Path) -> None:
    summary_of(records()).write(tmp_path)
    arrays = tmp_path / "arrays.npz"
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    arrays.write_bytes(content)
    with pytest.raises(DataError, match="does not hold statistics"):
        SplitSummary.read(tmp_path)


def test_duplicates_and_their_labels_are_found() -> None:
    columns = records(10)
    columns["image"][7] = columns["image"][3]
    columns["label"][7], columns["label"][3] = 0, 1
    summary = summary_of(part(columns, 0, 5), part(columns, 5, 10))
    assert summary.duplicates == 1
    twice = np.flatnonzero(summary.hashes[1:] == summary.hashes[:-1])[0]
    assert summary.labels[twice : twice + 2].tolist() == [0, 1]


def test_constant_and_blank_images_are_counted() -> None:
    columns = records(10)
    columns["image"][2] = 0
    columns["image"][5] = 200
    summary = summary_of(columns)
    assert summary.constant == 2
    assert summary.drawn == 9
    assert (summary.histograms.sum(axis=1) == 9).all()


def test_labels_outside_the_classes_are_counted_and_not_summed() -> None:
    columns = records(10)
    columns["label"][:3] = [-1, CLASSES, 1 << 40]
    summary = summary_of(columns)
    assert summary.outside == 3
    assert summary.classes.sum() == 7
    assert (summary.features["label"].low, summary.features["label"].high) == (-1, 1 << 40)


def test_images_of_another_size_are_counted_and_left_out() -> None:
    odd = records(5)
    odd["image"] = odd["image"][:, :-1]
    summary = summary_of(records(10), odd)
    assert (summary.records, summary.images) == (15, 10)
    assert summary.features["image"].lengths == {HEIGHT * WIDTH - 1: 5, HEIGHT * WIDTH: 10}
    assert summary.pixels.sum() == 10 * HEIGHT * WIDTH


def test_numbers_that_are_not_finite_are_counted() -> None:
    weight = np.array([[1.0], [np.nan], [np.inf], [-2.0]], np.float32)
    feature = summary_of(records(4) | {"weight": weight}).features["weight"]
    assert (feature.non_finite, feature.nan, feature.low, feature.high) == (2, 1, -2.0, 1.0)


def test_statistics_that_counted_nan_and_infinity_together_are_read(tmp_path: Path) -> None:
    summary_of(records()).write(tmp_path)
    stored = json.loads((tmp_path / "summary.json").read_text())
    for feature in stored["features"].values():
        del feature["nan"]
    (tmp_path / "summary.json").write_text(json.dumps(stored))
    assert SplitSummary.read(tmp_path).features["label"].nan == 0


def test_statistics_without_image_statistics_by_class_are_read(tmp_path: Path) -> None:
    summary_of(records()).write(tmp_path)
    with np.load(tmp_path / "arrays.npz") as file:
        arrays = {n: file[n] for n in file.files if n not in ("class_drawn", "class_steps")}
    np.savez_compressed(tmp_path / "arrays.npz", **arrays)
    summary = SplitSummary.read(tmp_path)
    assert summary.drawn
    assert not summary.class_drawn.any()


def test_a_batch_is_told_apart_by_span() -> None:
    columns = records(10)
    assert [(n, len(c["label"])) for n, c in by_span(columns)] == [(0, 10)]
    columns["span"] = np.array([0, 3, 3, 0, 0, 20261120, 3, 0, 0, 0])
    parts = dict(by_span(columns))
    assert {n: len(c["label"]) for n, c in parts.items()} == {0: 6, 3: 3, 20261120: 1}
    np.testing.assert_array_equal(parts[3]["image"], columns["image"][[1, 2, 6]])


def test_records_without_a_label_or_with_another_kind_are_counted() -> None:
    columns = records(6)
    unlabelled = {"image": columns["image"]}
    odd = {"image": np.ones((2, 3), np.float32), "label": np.array([[0.5], [1.5]], np.float32)}
    summary = summary_of(columns, unlabelled, odd)
    assert summary.features["label"].kinds == {"int": 6, "float": 2}
    assert summary.features["image"].kinds == {"bytes": 12, "float": 2}
    assert summary.classes.sum() == 6
    assert (summary.records, summary.images) == (14, 12)


def test_sums_do_not_overflow_at_ten_million_white_images() -> None:
    white = np.full((1000, HEIGHT * WIDTH), 255, np.uint8)
    summary = summary_of({"image": white, "label": np.zeros(1000, np.int64)})
    for _ in range(13):
        summary.merge(summary)
    assert summary.class_sums[0].tolist() == [255 * 1000 * 2**13] * (HEIGHT * WIDTH)
    ink = STATISTICS[0]
    assert ink.value(summary.sums[0] / summary.drawn) == 255
    assert summary.squares[0] / summary.drawn == 65536**2
