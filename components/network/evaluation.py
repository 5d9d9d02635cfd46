"""Loss and accuracy of a network on a split, in inference mode."""

from __future__ import annotations

import keras
import numpy as np

from bnpipe.components.network.examples import Split
from bnpipe.components.network.params import TrainingError


def evaluate(model: keras.Model, split: Split) -> tuple[float | None, float | None]:
    """Mean cross-entropy (nats) and accuracy in inference mode; (None, None) without examples.

    Raises:
        TrainingError: the loss is not a finite number.
    """
    if not split.size:
        return None, None
    loss, correct = 0.0, 0
    for features, labels in split.blocks():
        logits = model(features, training=False).numpy().astype(np.float64)
        top = logits.max(axis=1, keepdims=True)
        log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(axis=1))
        loss += float(np.sum(log_sum - logits[np.arange(len(labels)), labels]))
        correct += int(np.sum(logits.argmax(axis=1) == labels))
    if not np.isfinite(loss):
        raise TrainingError(
            f"the validation loss became {loss}: expected a finite number",
            hint="try a smaller trainer.learning_rate",
        )
    return loss / split.size, correct / split.size
