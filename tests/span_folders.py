"""Folders of spans with rendered digits, in both layouts."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.digit_renderer import draw_chunk


def write_images(folder: Path, seed: int, **counts: int) -> None:
    """A span in ImageFolder layout, with compressed PNG files; `counts` are images by split."""
    for split, count in counts.items():
        images, labels = draw_chunk(seed, split, 0)
        for i in range(count):
            path = folder / split / str(labels[i]) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[i]).save(path)
    (folder / "_SUCCESS").touch()


def write_records(folder: Path, seed: int, **counts: int) -> None:
    """A span of TFRecords with raw images, as Examples hold them."""
    for split, count in counts.items():
        images, labels = draw_chunk(seed, split, 0)
        columns = {"image": images[:count].reshape(count, -1), "label": labels[:count]}
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / "part-0.tfrecord").write_bytes(frame(encode(columns)).tobytes())
    (folder / "_SUCCESS").touch()


def write_drifted(
    folder: Path, seed: int, level: float, *, label: int | None = None, **counts: int
) -> None:
    """A span whose digits lean and blur the more, the higher the level; whole when it appears.

    At level 10 they are turned by 25 degrees, with noise of a seventh of the grey levels. A `label`
    is a mistake: every image gets it.
    """
    staged = folder.parent / f".{folder.name}"
    for split, count in counts.items():
        images, labels = drifted(seed, split, level)
        if label is not None:
            labels = np.full_like(labels, label)
        columns = {"image": images[:count].reshape(count, -1), "label": labels[:count]}
        (staged / split).mkdir(parents=True)
        (staged / split / "part-0.tfrecord").write_bytes(frame(encode(columns)).tobytes())
    (staged / "_SUCCESS").touch()
    staged.rename(folder)


def drifted(seed: int, split: str, level: float) -> tuple[Any, Any]:
    """Digits at a level of drift, uint8[1000, 28, 28], and their labels."""
    from scipy import ndimage

    images, labels = draw_chunk(seed, split, 0)
    turned = ndimage.rotate(images, 2.5 * level, axes=(1, 2), reshape=False, order=1)
    noise = np.random.default_rng(seed).normal(0.0, 3.5 * level, images.shape)
    return (turned + noise).clip(0, 255).round().astype(np.uint8), labels
