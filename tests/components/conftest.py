"""Small TransformedExamples, and a way to run the trainer on them."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame

Rows = dict[str, tuple[np.ndarray, np.ndarray]]
WriteExamples = Callable[..., TransformedExamples]


def write(folder: Path, splits: Rows, shape: tuple[int, int], classes: int) -> TransformedExamples:
    shards = {}
    for split, (features, labels) in splits.items():
        (folder / f"Split-{split}").mkdir(parents=True)
        halves = np.array_split(np.arange(len(labels)), 2)
        for index, rows in enumerate(halves):
            name = f"Split-{split}/transformed_examples-{index:05}-of-00002"
            records = b""
            if len(rows):
                columns = {"features": features[rows], "label": labels[rows].astype(np.int64)}
                records = frame(encode(columns)).tobytes()
            (folder / name).write_bytes(records)
            shards[name] = len(rows)
    info = DatasetInfo(
        name="blobs",
        version="1.0.0",
        height=shape[0],
        width=shape[1],
        label_names=tuple(f"class {k}" for k in range(classes)),
        splits={split: len(labels) for split, (_, labels) in splits.items()},
        synthetic=True,
    )
    (folder / "dataset.json").write_text(info.to_json(shards=shards))
    return TransformedExamples("transform.transformed", folder)


def blobs(
    sizes: dict[str, int], shape: tuple[int, int] = (4, 5), classes: int = 3, seed: int = 0
) -> Rows:
    """Classes that overlap a little, around random points of [0, 1]^D."""
    generator = np.random.default_rng(seed)
    centers = generator.random((classes, shape[0] * shape[1]))
    splits = {}
    for split, size in sizes.items():
        labels = generator.integers(classes, size=size)
        noise = generator.normal(0, 0.3, (size, centers.shape[1]))
        splits[split] = np.clip(centers[labels] + noise, 0, 1).astype(np.float32), labels
    return splits


@pytest.fixture(scope="session")
def write_examples() -> WriteExamples:
    return write


@pytest.fixture(scope="session")
def make_blobs() -> Callable[..., Rows]:
    return blobs


@pytest.fixture(scope="session")
def blob_examples(tmp_path_factory: pytest.TempPathFactory) -> TransformedExamples:
    """203 train examples, so that a batch of 20 leaves a rest of 3."""
    folder = tmp_path_factory.mktemp("blobs")
    return write(folder, blobs({"train": 203, "validation": 50, "test": 50}), (4, 5), 3)


@pytest.fixture(scope="session")
def context() -> Callable[[Path], Any]:
    """A context of the trainer whose scratch folder is given."""
    from bnpipe.components.base import Context

    def make(scratch: Path, progress: Any = lambda done, total, note: None) -> Context:
        scratch.mkdir(parents=True, exist_ok=True)

        def beam() -> Any:
            raise AssertionError("the trainer does not use Beam")

        return Context(
            step="trainer",
            run_id="test",
            scratch=scratch,
            cache=scratch,
            log=logging.getLogger("test.trainer"),
            progress=progress,
            beam=beam,
            input_digests={"examples": "sha256-of-the-examples"},
        )

    return make
