"""Data for tests of the validator: healthy splits of rendered digits, and ways to spoil them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from components.example_validator.findings import Evidence
from components.example_validator.params import Params
from data.dataset_info import DatasetInfo
from data.digit_renderer import draw_chunk
from data.image_statistics import histograms, measure
from data.schema import schema_of
from data.statistics import SplitSummary

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
    pixels = np.ascontiguousarray(images).reshape(len(labels), -1)
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


def summary(*batches: Columns, info: DatasetInfo = INFO) -> SplitSummary:
    """The statistics of a split."""
    result = SplitSummary(info.height, info.width, info.classes)
    for batch in batches:
        result.add(batch)
    return result


def evidence(
    splits: Mapping[str, Columns | list[Columns]],
    *,
    champion: SplitSummary | None = None,
    info: DatasetInfo = INFO,
    **params: Any,
) -> Evidence:
    """What the gate decides on."""
    batches = {name: s if isinstance(s, list) else [s] for name, s in splits.items()}
    return Evidence(
        info=info,
        schema=schema_of(info, None)[0],
        splits={name: summary(*parts, info=info) for name, parts in batches.items()},
        champion=champion,
        params=Params(**params),
    )


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


def resampled(
    base: SplitSummary, steps: np.ndarray, labels: np.ndarray, chosen: np.ndarray
) -> SplitSummary:
    """`base` with the image statistics and labels of a resample; pixels and hashes stay."""
    result = SplitSummary(base.height, base.width, len(base.classes))
    result.__dict__.update(base.__dict__)
    drawn = steps[chosen]
    result.histograms, result.sums = histograms(drawn), drawn.sum(axis=0)
    result.classes = np.bincount(labels[chosen], minlength=len(base.classes))
    return result


def image_steps(images: np.ndarray) -> np.ndarray:
    """The image statistics of every image, in steps."""
    pixels = np.ascontiguousarray(images).reshape(len(images), -1)
    return measure(pixels, images.shape[1], images.shape[2])
