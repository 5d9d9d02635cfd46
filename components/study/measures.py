"""What is measured of a network under training, without changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.study.results import Shift

Floats = npt.NDArray[np.float32]
Values = list[npt.NDArray[Any]]
PERCENTILES = (15, 50, 85)  # those of Ioffe & Szegedy 2015, figure 1


class Probe:
    """Asks one network.

    Args:
        model: of `network.build`, with hidden layers `hidden_1` to `hidden_<depth>`.
        depth: how many.
        features: images on which gradients and layer inputs are measured, float32[n, D].
        labels: theirs, int32[n].
    """

    def __init__(self, model: keras.Model, depth: int, features: Any, labels: Any) -> None:
        self.model = model
        self._last = model.get_layer(f"hidden_{depth}")
        hidden = [model.get_layer(f"hidden_{i}") for i in range(1, depth + 1)]
        self._kernels = [layer.kernel.value for layer in hidden]
        below = f"hidden_{depth - 1}_activation" if depth > 1 else "features"
        outputs = [model.output, model.get_layer(below).output]
        self._tapped = keras.Model(model.input, outputs)
        self._images = tf.constant(features), tf.constant(labels)
        self._hits = tf.function(self._trace_hits, reduce_retracing=True, autograph=False)
        self._gradients = tf.function(self._trace_gradients, autograph=False)

    def hits(self, features: Any, labels: Any) -> npt.NDArray[np.bool_]:
        """Which rows are classified right at inference, bool[n]."""
        return self._hits(features, labels).numpy()

    def gradients(self) -> tuple[Values, Floats]:
        """As in training: the gradient by every hidden kernel, and the last hidden layer's inputs.

        Statistics and random states are as before.
        """
        before = values(self.model.non_trainable_variables)
        gradients, inputs = self._gradients(*self._images)
        assign(self.model.non_trainable_variables, before)
        return [gradient.numpy() for gradient in gradients], inputs.numpy()

    def upper(self) -> list[keras.Variable]:
        """The learned variables of the last hidden layer and of those above it."""
        variables = self.model.trainable_variables
        at = next(i for i, v in enumerate(variables) if v is self._last.kernel)
        return variables[at:]

    def _trace_hits(self, features: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        logits = self.model(features, training=False)
        return tf.equal(tf.argmax(logits, 1, output_type=labels.dtype), labels)

    def _trace_gradients(self, features: tf.Tensor, labels: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            logits, inputs = self._tapped(features, training=True)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(loss)
        return tape.gradient(loss, self._kernels), inputs


@dataclass
class GradientCourse:
    """Gradient norms over the steps of one training."""

    steps: list[int] = field(default_factory=list)
    norms: list[list[float]] = field(default_factory=list)

    def record(self, step: int, gradients: Values) -> None:
        """Takes the gradients by all hidden kernels, after so many steps."""
        self.steps.append(step)
        self.norms.append([float(np.linalg.norm(gradient)) for gradient in gradients])

    def fields(self) -> dict[str, Any]:
        """The fields of `results.Training`."""
        if not self.steps:
            return {}
        norms = np.array(self.norms)
        with np.errstate(all="ignore"):
            ratio, variation = norms[:, 0] / norms[:, -1], np.log(norms[:, 0]).std()
        return {
            "gradient_steps": tuple(self.steps),
            "gradient_ratio": series(ratio),
            "gradient_norms": series(norms[0]),
            "gradient_variation": series([variation])[0],
        }


@dataclass
class ShiftCourse:
    """How the inputs of the last hidden layer, and its gradient by them, move in one training."""

    steps: list[int] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    _means: Floats | None = None

    def record(self, step: int, inputs: Floats, before: Values, after: Values) -> None:
        """Takes what was measured after so many steps.

        Args:
            step: so many.
            inputs: of the last hidden layer, float32[n, units].
            before: the gradient by its kernel.
            after: the same, once the layers below have taken one step more.
        """
        means, deviations = inputs.mean(0), inputs.std(0)
        with np.errstate(all="ignore"):
            old, new = (np.concatenate([g.ravel() for g in part]) for part in (before, after))
            change = np.linalg.norm(new - old) / np.linalg.norm(old)
            cosine = new @ old / np.linalg.norm(new) / np.linalg.norm(old)
            if self._means is not None:
                # A unit that is never on has no deviation, and does not move.
                alive = deviations > 0
                moved = np.abs(means - self._means)[alive] / deviations[alive]
                quarters = np.percentile(moved, PERCENTILES) if moved.size else [np.nan] * 3
                self.steps.append(step)
                mean = moved.mean() if moved.size else np.nan
                self.rows.append([float(n) for n in (mean, *quarters, change, cosine)])
        self._means = means

    def fields(self) -> dict[str, Any]:
        """The field of `results.Training`."""
        if not self.steps:
            return {}
        columns = [series(column) for column in np.array(self.rows).T]
        return {"shift": Shift(steps=tuple(self.steps), **dict(zip(_SHIFT, columns, strict=True)))}


_SHIFT = ("moved", "moved_15", "moved_50", "moved_85", "gradient_change", "gradient_cosine")


def series(numbers: Any) -> tuple[float | None, ...]:
    """As a record has them: rounded to what float32 knows, None where there is no number."""
    return tuple(float(f"{n:.6g}") if np.isfinite(n) else None for n in map(float, numbers))


def values(variables: Sequence[keras.Variable]) -> Values:
    """Copies of their values."""
    return [np.array(variable.numpy()) for variable in variables]


def assign(variables: Sequence[keras.Variable], stored: Values) -> None:
    """Gives them back what `values` took."""
    for variable, value in zip(variables, stored, strict=True):
        variable.assign(value)
