"""Data for tests of the validator: healthy splits of rendered digits, and ways to spoil them."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from scipy import ndimage

from bnpipe.components.example_validator.params import Checks, Params
from bnpipe.components.example_validator.profile import Profile, Share
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.record_ids import as_numbers, content_hashes
from bnpipe.data.sources.digit_renderer import draw_chunk
from bnpipe.data.statistics.image_statistics import STEPS, histograms, measure
from bnpipe.data.statistics.schema import schema_of
from bnpipe.data.statistics.summary import FeatureSummary, SplitSummary

Columns = dict[str, np.ndarray]
SIZES = {"train": 400, "validation": 50, "test": 100}
INFO = DatasetInfo("rendered_digits", "1.0.0", 28, 28, tuple(map(str, range(10))), SIZES, True)


def digits(count: int, chunk: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rendered digits: uint8[N, 28, 28] and labels int64[N]."""
    drawn = [draw_chunk(5, "train", chunk + i) for i in range(-(-count // 1000))]
    images, labels = (np.concatenate(parts)[:count] for parts in zip(*drawn, strict=True))
    return images, labels


def records(images: np.ndarray, labels: np.ndarray) -> Columns:
    """Columns as example_gen writes them; ids and hashes are not looked into."""
    named = np.zeros((len(labels), 8), np.uint8)
    pixels = np.ascontiguousarray(images).reshape(len(labels), 28 * 28)
    span = np.zeros(len(labels), np.int64)
    return {"image": pixels, "label": labels, "id": named, "content_hash": named, "span": span}


def healthy() -> dict[str, Columns]:
    """Three splits without a fault."""
    images, labels = digits(sum(SIZES.values()))
    splits, start = {}, 0
    for name, size in SIZES.items():
        part = slice(start, start + size)
        splits[name] = records(images[part].copy(), labels[part].copy())
        start += size
    return splits


def spans_of(*sizes: int) -> dict[str, dict[str, Columns]]:
    """Spans 1, 2, ... of new digits, so many in each; a fifth of them for test."""
    spans = {}
    for number, size in enumerate(sizes, 1):
        images, labels = digits(size, chunk=10 * number)
        cut = size - size // 5
        spans[str(number)] = {
            "train": records(images[:cut], labels[:cut]),
            "test": records(images[cut:], labels[cut:]),
        }
    return spans


def summary(*batches: Columns, info: DatasetInfo = INFO) -> SplitSummary:
    """The statistics of a split."""
    result = SplitSummary(info.height, info.width, info.classes)
    for batch in batches:
        result.add(batch)
    return result


def profile(
    splits: Mapping[str, Columns | list[Columns]],
    *,
    spans: Mapping[str, Mapping[str, Columns]] | None = None,
    champion: SplitSummary | None = None,
    info: DatasetInfo = INFO,
    schema: Any = None,
    **params: Any,
) -> Profile:
    """What the gate decides on.

    Args:
        splits: batches of the data set by split.
        spans: what each span adds to each split, from old to new.
        champion: what the champion was trained on.
        info: the data set.
        schema: its schema; None for its own.
        params: bounds, and levels of checks.
    """
    levels = {f.name: params.pop(f.name) for f in fields(Checks) if f.name in params}
    batches = {name: s if isinstance(s, list) else [s] for name, s in splits.items()}
    base = {name: summary(*parts, info=info) for name, parts in batches.items()}
    added = {
        span: {split: summary(columns, info=info) for split, columns in parts.items()}
        for span, parts in (spans or {}).items()
    }
    return assembled(
        base,
        added,
        info=info,
        schema=schema or schema_of(info, None)[0],
        champion=champion,
        params=Params(checks=Checks(**levels), **params),
    )


def assembled(
    base: Mapping[str, SplitSummary],
    spans: Mapping[str, Mapping[str, SplitSummary]],
    **given: Any,
) -> Profile:
    """Profile from the statistics of the data set and of every span, by split."""
    parts, splits = [], {}
    for split, own in base.items():
        of_spans = {s: added[split] for s, added in spans.items() if split in added}
        parts.append(Share(split, f"{split}/base" if of_spans else split, own))
        parts.extend(Share(split, f"{split}/span-{s}", part) for s, part in of_spans.items())
        splits[split] = own if not of_spans else total(own, *of_spans.values())
    counts = {s: sum(part.records for part in added.values()) for s, added in spans.items()}
    return Profile(splits=splits, parts=parts, spans=counts, **given)


def total(*summaries: SplitSummary) -> SplitSummary:
    """The statistics of all together."""
    first = summaries[0]
    result = SplitSummary(first.height, first.width, len(first.classes))
    for part in summaries:
        result.merge(part)
    return result


def rotated(images: np.ndarray) -> np.ndarray:
    """By 15 degrees."""
    turned = ndimage.rotate(
        images.astype(np.float32), 15, axes=(1, 2), reshape=False, order=1, mode="constant"
    )
    return turned.clip(0, 255).astype(np.uint8)


def noisy(images: np.ndarray) -> np.ndarray:
    """With noise of 40 grey levels."""
    noise = np.random.default_rng(9).normal(0, 40, images.shape)
    return (images + noise).clip(0, 255).astype(np.uint8)


def textures(images: np.ndarray) -> np.ndarray:
    """Another kind of picture altogether: smooth blobs that fill the frame."""
    blobs = np.random.default_rng(8).random(images.shape)
    smooth = ndimage.gaussian_filter(blobs, (0, 3, 3), mode="wrap")
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


SPOILED: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "shifted": lambda images: np.roll(images, 2, axis=2),
    "rotated": rotated,
    "inverted": lambda images: 255 - images,
    "noisy": noisy,
    "scaled twice": lambda images: (images / 255).astype(np.uint8),
    "mirrored": lambda images: images[:, :, ::-1],
    "another data set": textures,
}


class Pool:
    """Many images, measured once, so that statistics of any choice of them cost next to nothing."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        pixels = np.ascontiguousarray(images).reshape(len(images), -1)
        self.labels = labels
        self.steps = measure(pixels, images.shape[1], images.shape[2])
        self.hashes = as_numbers(content_hashes(pixels))
        self.brightest = pixels.max(axis=1)
        assert len(self.steps) == len(labels)  # no blank ones
        assert len(np.unique(self.hashes)) == len(labels)

    def summary(self, chosen: np.ndarray) -> SplitSummary:
        """What statistics_gen would say of these images, but for mean images and dark pixels."""
        result, count = SplitSummary(28, 28, 10), len(chosen)
        result.records = result.images = count
        labels, steps = self.labels[chosen], self.steps[chosen]
        for name, kind, length in (
            ("image", "bytes", 784),
            ("label", "int", 1),
            ("id", "bytes", 8),
            ("content_hash", "bytes", 8),
            ("span", "int", 1),
        ):
            result.features[name] = FeatureSummary({kind: count}, {length: count}, low=0, high=9)
        result.classes = np.bincount(labels, minlength=10)
        result.pixels = np.bincount(self.brightest[chosen], minlength=256)
        result.histograms, result.sums = histograms(steps), steps.sum(axis=0)
        result.low = steps.min(axis=0, initial=STEPS)
        result.high = steps.max(axis=0, initial=0)
        members = (labels == np.arange(10)[:, None]).astype(np.int64)
        result.class_drawn = members.sum(axis=1)
        result.class_steps, result.class_squares = members @ steps, members @ steps**2
        result._hashed = [(self.hashes[chosen], labels)]
        return result
