"""Folders of spans with rendered digits, in both layouts."""

from pathlib import Path

from PIL import Image

from data.digit_renderer import draw_chunk
from data.examples import encode
from data.tfrecord import frame


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
