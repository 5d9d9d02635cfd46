"""The trained weights as Keras' `.weights.h5`."""

from __future__ import annotations

from pathlib import Path

import keras


def write_weights(model: keras.Model, path: Path) -> None:
    """Writes the weights; the same weights give the same bytes."""
    model.save_weights(path)
