"""The one function that turns images into model input.

Beam (transform), training and the exported graph call this same function, so that what the model
is served cannot drift from what it was trained on.
"""

from __future__ import annotations

from typing import Any

PIXEL_MAX = 255.0
"""Largest value of an 8-bit pixel."""


def flatten_and_scale(images: Any) -> Any:
    """Flattens 8-bit images and scales their pixels to [0, 1].

    Args:
        images: uint8[N, H, W], a numpy array or a TensorFlow tensor with known H and W.

    Returns:
        float32[N, H*W] of the same kind, `pixel / 255` with pixels in row-major order. Division is
        correctly rounded everywhere, so both kinds give the same bits.
    """
    import numpy as np

    features = int(images.shape[1]) * int(images.shape[2])
    if isinstance(images, np.ndarray):
        return images.reshape(len(images), features).astype(np.float32) / np.float32(PIXEL_MAX)

    import tensorflow as tf

    return tf.cast(tf.reshape(images, [-1, features]), tf.float32) / PIXEL_MAX
