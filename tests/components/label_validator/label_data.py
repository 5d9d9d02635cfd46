"""Examples of digits, with spans, and labels that are wrong on purpose."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bnpipe.components.artifacts import Examples
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame

Images = tuple[np.ndarray, np.ndarray]
"""uint8[N, H, W] and their labels."""


def write(
    folder: Path, splits: Mapping[str, Images], spans: Mapping[str, Mapping[str, Images]] = {}
) -> Examples:
    """One shard to a split of every source; spans are numbered from 1."""
    sources = {0: splits, **dict(enumerate(spans.values(), start=1))}
    shards, counts = {}, {}
    for split in ("train", "validation", "test"):
        (folder / f"Split-{split}").mkdir(parents=True)
        counts[split] = 0
        for number, source in sources.items():
            images, labels = source.get(split, (np.zeros((0, 28, 28), np.uint8), np.zeros(0, int)))
            ids = np.array([f"{split}/{number}/{i:06}".encode() for i in range(len(labels))], "S30")
            name = f"Split-{split}/data_tfrecord-{number:05}-of-{len(sources):05}"
            columns = {
                "image": images.reshape(-1, 28 * 28),
                "label": labels.astype(np.int64),
                "id": ids.view(np.uint8).reshape(len(labels), 30),
                "span": np.full(len(labels), number),
            }
            records = frame(encode(columns)).tobytes() if len(labels) else b""
            (folder / name).write_bytes(records)
            shards[name] = len(labels)
            counts[split] += len(labels)
    numbered = {name: {"number": number} for number, name in enumerate(spans, start=1)}
    (folder / "dataset.json").write_text(info(counts).to_json(shards=shards, spans=numbered))
    return Examples("example_gen.examples", folder)


def info(counts: dict[str, int]) -> DatasetInfo:
    """Of digits, with as many images in every split."""
    return DatasetInfo("drawn", "1.0.0", 28, 28, tuple(map(str, range(10))), counts, True)


def permuted(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The labels, of which a share have changed places with one another."""
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    changed[rows] = labels[rng.permutation(rows)]
    return changed


def flipped(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """The labels, of which a share are now another one, whichever."""
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    changed[rows] = (labels[rows] + rng.integers(1, 10, len(rows))) % 10
    return changed
