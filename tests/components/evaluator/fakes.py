"""Small stand-ins for what the evaluator reads: images whose classes a line can tell apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import Model, TransformedExamples
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame

Floats = npt.NDArray[np.float32]

HEIGHT = WIDTH = 8
CLASSES = 10


def info(images: int) -> DatasetInfo:
    return DatasetInfo(
        name="stripes",
        version="1.0.0",
        height=HEIGHT,
        width=WIDTH,
        label_names=tuple(str(k) for k in range(CLASSES)),
        splits={"train": images, "validation": images, "test": images},
        synthetic=True,
    )


def draw(images: int, seed: int, noise: float = 0.25) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Noisy copies of one random pattern per class, as multiples of 1/255."""
    patterns = np.random.default_rng(0).uniform(0.2, 0.8, size=(CLASSES, HEIGHT * WIDTH))
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(images) % CLASSES)
    pixels = patterns[labels] + rng.normal(0, noise, size=(images, HEIGHT * WIDTH))
    pixels[0, 0] = 1.0
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.float32) / 255, labels


def write_examples(
    folder: Path, features: Floats, labels: npt.NDArray[np.int64], shards: int = 2
) -> TransformedExamples:
    """A TransformedExamples folder with the same images in every split."""
    quartile = np.argsort(np.argsort(features.mean(axis=1))) * 4 // len(labels)
    counts: dict[str, int] = {}
    for split in ("train", "validation", "test"):
        (folder / f"Split-{split}").mkdir(parents=True)
        for shard, rows in enumerate(np.array_split(np.arange(len(labels)), shards)):
            name = f"Split-{split}/transformed_examples-{shard:05d}-of-{shards:05d}"
            ids = np.array([f"stripes:1.0.0/{split}/{i:06d}".encode() for i in rows])
            columns = {
                "features": features[rows],
                "label": labels[rows],
                "id": ids.view(np.uint8).reshape(len(rows), -1),
                "ink_quartile": quartile[rows],
            }
            (folder / name).write_bytes(frame(encode(columns)).tobytes())
            counts[name] = len(rows)
    text = info(len(labels)).to_json(shards=counts, ink_cuts=[0.25, 0.5, 0.75])
    (folder / "dataset.json").write_text(text)
    return TransformedExamples("transform.transformed", folder)


def fit(features: Floats, labels: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """A linear classifier by ridge regression: kernel [D, K] and bias [K]."""
    x = np.concatenate([features, np.ones((len(features), 1))], axis=1).astype(np.float64)
    y = np.eye(CLASSES)[labels] - 1 / CLASSES
    weights = np.linalg.solve(x.T @ x + 1e-1 * np.eye(x.shape[1]), x.T @ y)
    weights *= 16.0
    return weights[:-1].astype(np.float32), weights[-1].astype(np.float32)


def write_model(folder: Path, kernel: Floats, bias: Floats) -> Model:
    """A Model folder whose SavedModel is the real export of a linear network."""
    from bnpipe.serving.export.classifier import export
    from bnpipe.serving.export.folding import Dense

    folder.mkdir(parents=True)
    export(folder / "saved_model", [Dense("logits", kernel, bias)], info(1))
    for name in ("training.weights.h5", "history.json", "model_card.json"):
        (folder / name).write_text(json.dumps({}))
    return Model("trainer.model", folder)


def write_other_model(folder: Path, module: Any, function: Callable[..., Any]) -> Model:
    """A Model folder whose `serving_default` is any TensorFlow function of `features`."""
    import tensorflow as tf

    folder.mkdir(parents=True)
    spec = tf.TensorSpec([None, HEIGHT * WIDTH], tf.float32, "features")
    concrete = tf.function(function).get_concrete_function(spec)
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=concrete)
    for name in ("training.weights.h5", "history.json", "model_card.json"):
        (folder / name).write_text(json.dumps({}))
    return Model("trainer.model", folder)
