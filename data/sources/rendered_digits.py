"""`rendered_digits`, a TFDS data set of our own: digits drawn by `data/sources/digit_renderer.py`.

It is for tests, offline demonstrations, scale measurements and drift, and is never passed off as
MNIST: its name is in every record id, artifact and report. Importing this module registers it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from bnpipe.data.png import encode_stored
from bnpipe.data.sources import digit_renderer
from bnpipe.data.sources.digit_renderer import CHUNK, SIZE, draw_chunk

DEFAULT_SIZE = 12_000
_SHARD_CHUNKS = 16  # TFDS holds a shard's examples in memory while it writes it
_SOURCES = tuple(Path(str(name)) for name in (digit_renderer.__file__, __file__))
_LIBRARIES = ("numpy", "scipy", "pillow", "matplotlib")


@cache
def drawing_digest() -> str:
    """Names the code and the libraries that draw: others may draw other pixels."""
    digest = hashlib.sha256(" ".join(f"{n}=={version(n)}" for n in _LIBRARIES).encode())
    for path in _SOURCES:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class RenderedDigitsConfig(tfds.core.BuilderConfig):
    """Number of digits, and the seed that they are drawn from. A sixth is the test split.

    The name is that of the prepared folder; with the digest in it, digits that were prepared by
    other code are never taken for those that this code draws.
    """

    def __init__(self, size: int | None = None, seed: int = 0) -> None:
        size = DEFAULT_SIZE if size is None else size
        super().__init__(
            name=f"{size}_seed{seed}_{drawing_digest()}",
            description=f"{size} digits of seed {seed}",
        )
        self.split_sizes = {"train": size - size // 6, "test": size // 6}
        self.seed = seed


class RenderedDigits(tfds.core.ShardBasedBuilder):
    """Digits drawn from the fonts that matplotlib ships."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [RenderedDigitsConfig()]  # noqa: RUF012 - TFDS wants a list
    # TFDS would look for files of the top-level package: that is a namespace, which has no folder
    # of its own where it is installed editable.
    code_path = tfds.core.as_path(__file__)
    pkg_dir_path = code_path.parent

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Digits drawn from the fonts that matplotlib ships.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 1)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _shard_iterators_per_split(self, dl_manager: Any) -> Mapping[str, Sequence[Any]]:
        seed = self.builder_config.seed
        return {
            split: [
                partial(_examples, seed, split, start, min(start + _SHARD_CHUNKS * CHUNK, size))
                for start in range(0, size, _SHARD_CHUNKS * CHUNK)
            ]
            for split, size in self.builder_config.split_sizes.items()
        }


def _examples(seed: int, split: str, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Images start to stop of a split, by index; `start` is a multiple of CHUNK."""
    for first in range(start, stop, CHUNK):
        images, labels = draw_chunk(seed, split, first // CHUNK)
        for i in range(min(CHUNK, stop - first)):
            yield first + i, {"image": encode_stored(images[i]), "label": int(labels[i])}
