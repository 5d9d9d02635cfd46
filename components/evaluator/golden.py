"""`golden.npz`: a few requests per signature and the candidate's answers to them.

The infra validator sends the same requests to a server and compares. Keys are
`<signature>/request/<input>` and `<signature>/answer/<output>`. Strings that may hold any byte
(PNG files, serialized tf.Examples) are stored as base64 text under `<key>.b64`, which is also how
TensorFlow Serving's REST interface takes them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.evaluator.inference import load, serialized_example
from bnpipe.data.dataset_info import DatasetInfo

Array = npt.NDArray[Any]


def write(
    saved_model: Path | None, features: npt.NDArray[np.float32], info: DatasetInfo, path: Path
) -> tuple[str, ...]:
    """Asks every known signature of a SavedModel and writes requests and answers.

    Args:
        saved_model: the candidate; None when it cannot be used, then the file holds nothing.
        features: float32[N, D] in [0, 1], the images to ask for.
        info: the data set, for the images' shape.
        path: where to write.

    Returns:
        The signatures asked, sorted.
    """
    signatures = load(str(saved_model)).signatures if saved_model else {}
    arrays: dict[str, Array] = {}
    asked = []
    for name, inputs in requests(features, info).items():
        if name not in signatures:
            continue
        asked.append(name)
        for key, value in inputs.items():
            arrays |= _entry(f"{name}/request/{key}", value)
        answer = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        for key, tensor in sorted(answer.items()):
            arrays |= _entry(f"{name}/answer/{key}", tensor.numpy())
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return tuple(sorted(asked))


def requests(
    features: npt.NDArray[np.float32], info: DatasetInfo
) -> Mapping[str, Mapping[str, Array]]:
    """The inputs of every signature for the same images, by signature and input name."""
    shape = (-1, info.height, info.width)
    images = np.rint(features * 255.0).astype(np.uint8).reshape(shape)
    pngs = [tf.io.encode_png(image[..., None]).numpy() for image in images]
    examples = [serialized_example(row) for row in features]
    return {
        "serving_default": {"features": features},
        "probabilities_only": {"features": features},
        "serve_images": {"images": images},
        "serve_png": {"image_bytes": np.array(pngs, dtype=object)},
        "classify": {"inputs": np.array(examples, dtype=object)},
    }


def _entry(key: str, value: Array) -> dict[str, Array]:
    if value.dtype != object:
        return {key: value}
    # numpy's fixed-length strings lose trailing zero bytes; base64 text has none.
    flat = [base64.b64encode(item) for item in value.ravel()]
    return {f"{key}.b64": np.array(flat).reshape(value.shape)}
