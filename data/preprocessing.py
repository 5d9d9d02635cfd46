"""The one function that turns images into model input, and its inverse.

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
        float32[N, H*W] of the same kind, pixels in row-major order. Both kinds give the same bits:
        pixels are multiplied by float32(1 / 255), because TensorFlow's graph optimizer turns a
        division by 255 into that multiplication anyway.
    """
    import numpy as np

    scale = np.float32(1.0 / PIXEL_MAX)
    features = int(images.shape[1]) * int(images.shape[2])
    if isinstance(images, np.ndarray):
        return images.reshape(len(images), features).astype(np.float32) * scale

    import tensorflow as tf

    return tf.cast(tf.reshape(images, [-1, features]), tf.float32) * scale


def unscale(features: Any) -> Any:
    """The pixels of scaled features: the inverse of `flatten_and_scale`, but for the shape.

    Args:
        features: float32, of any shape; a value that no pixel has, also one outside
            [0, 1], is taken for the nearest pixel.

    Returns:
        uint8 of the same shape.
    """
    import numpy as np

    return np.rint(np.clip(features, 0.0, 1.0) * PIXEL_MAX).astype(np.uint8)
