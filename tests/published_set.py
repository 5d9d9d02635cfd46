"""A small data set as TFDS would publish it, in the place of one that has to be downloaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.data.sources import tfds_source
from bnpipe.data.sources.checksums import LocalArchives

NOTHING_TO_DOWNLOAD = LocalArchives(None, (), {}, {}, ())


def random_images(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 9, 1), np.uint8)


def published(data_dir: Path, sizes: dict[str, int]) -> Any:
    """A TFDS data set with these splits."""
    import tensorflow_datasets as tfds

    class Four(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "four"

        def _info(self) -> Any:
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(5, 9, 1)),
                    "label": tfds.features.ClassLabel(names=["cat", "dog"]),
                }
            )
            return tfds.core.DatasetInfo(
                builder=self, features=features, supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager: Any) -> Any:
            return {
                split: self._generate_examples(seed, size)
                for seed, (split, size) in enumerate(sizes.items())
            }

        def _generate_examples(self, seed: int, size: int) -> Any:
            for key, image in enumerate(random_images(seed, size)):
                yield key, {"image": image, "label": key % 2}

    return Four(data_dir=str(data_dir))


def publish(monkeypatch: pytest.MonkeyPatch, sizes: dict[str, int]) -> None:
    """Lets TFDS give a data set with these splits, whatever the name that it is asked for."""
    monkeypatch.setattr(tfds_source, "find", lambda _, data_dir: published(data_dir, sizes))
    monkeypatch.setattr(tfds_source, "check_archives", lambda *_: NOTHING_TO_DOWNLOAD)
