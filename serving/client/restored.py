"""A served version, restored in this process: its answers without a server."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.errors import ServingError

_BATCH = 1000


def class_ids(saved_model: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The class of every image, by signature `serve_images`.

    Args:
        saved_model: folder of a version.
        images: uint8[N, H, W].

    Returns:
        int64[N].

    Raises:
        ServingError: it cannot be restored, or has no such signature.
    """
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *_answers(saved_model, images, "class_id")])


def probabilities(
    saved_model: Path, images: npt.NDArray[np.uint8], classes: int
) -> npt.NDArray[np.float32]:
    """The probabilities of every image, float32[N, K]; as `class_ids`.

    Args:
        saved_model: folder of a version.
        images: uint8[N, H, W].
        classes: how many there are, K.
    """
    none = np.zeros((0, classes), np.float32)
    return np.concatenate([none, *_answers(saved_model, images, "probabilities")])


@lru_cache(maxsize=1)
def _loaded(saved_model: Path) -> Any:
    """A version is never replaced, and loading one takes half a second."""
    import tensorflow as tf

    return tf.saved_model.load(str(saved_model))


def _answers(
    saved_model: Path, images: npt.NDArray[np.uint8], output: str
) -> list[npt.NDArray[Any]]:
    import tensorflow as tf

    try:
        answer = _loaded(saved_model).signatures["serve_images"]
        return [
            answer(images=tf.constant(images[at : at + _BATCH]))[output].numpy()
            for at in range(0, len(images), _BATCH)
        ]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ServingError(
            f"{saved_model} does not answer serve_images: {type(error).__name__}: {error}"
        ) from error
