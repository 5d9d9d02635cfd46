"""A served version, restored in this process: its answers without a server."""

from __future__ import annotations

from pathlib import Path

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
    import tensorflow as tf

    try:
        answer = tf.saved_model.load(str(saved_model)).signatures["serve_images"]
        batches = [
            answer(images=tf.constant(images[at : at + _BATCH]))["class_id"].numpy()
            for at in range(0, len(images), _BATCH)
        ]
    except (OSError, KeyError, ValueError, tf.errors.OpError) as error:
        raise ServingError(
            f"{saved_model} does not answer serve_images: {type(error).__name__}: {error}"
        ) from error
    return np.concatenate([np.zeros(0, np.int64), *batches])
