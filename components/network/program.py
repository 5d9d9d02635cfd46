"""The steps of a training as compiled programs: up to a thousand are one call of XLA's.

So nothing is dispatched in between. What a program is compiled for are shapes, not values: it
serves whoever has the same network, and holds as many rows.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

CHUNK_STEPS = 1000  # steps of one call: about a tenth of a second between progress and checkpoints


@dataclass
class Program:
    """Takes steps of gradient descent with one network.

    Args:
        model: a model features -> logits; its variables are changed.
        optimizer: changes them.
        batch_size: rows of a step.
        chunk_steps: the most steps of one call.
    """

    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    batch_size: int
    chunk_steps: int

    def __post_init__(self) -> None:
        self.optimizer.build(self.model.trainable_variables)
        features = tf.TensorSpec((None, self.model.input_shape[-1]), tf.float32)
        any_batch = features, tf.TensorSpec((None,), tf.int32)
        # AutoGraph would rewrite the layers' Python code first, for a second and no gain.
        self._many_steps = tf.function(self._trace_many_steps, jit_compile=True, autograph=False)
        self._one_step = tf.function(
            self._trace_one_step, autograph=False, input_signature=any_batch
        )

    def compile(self, features: tf.Tensor, labels: tf.Tensor) -> None:
        """Makes `advance` ready for float32[N, D] and int32[N]; zero steps change no variable."""
        with _no_garbage_collection():
            self.advance(features, labels, np.zeros((0, self.batch_size), np.int64))

    def compile_step(self) -> None:
        """Makes `step` ready."""
        with _no_garbage_collection():
            self._one_step.get_concrete_function()

    def advance(
        self, features: tf.Tensor, labels: tf.Tensor, rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.float32], int]:
        """Takes a step on every row of `rows`, int64[n, batch_size], with n <= `chunk_steps`.

        Args:
            features: float32[N, D].
            labels: int32[N].
            rows: the examples of each step.

        Returns:
            the losses before each step, float32[n], and how many examples were predicted right.
        """
        missing = self.chunk_steps - len(rows)
        padded = np.concatenate([rows, np.zeros((missing, rows.shape[1]), np.int64)])
        order, steps = tf.constant(padded, tf.int32), tf.constant(len(rows))
        losses, correct = self._many_steps(features, labels, order, steps)
        return losses.numpy()[: len(rows)], int(correct)

    def step(
        self, features: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]
    ) -> tuple[npt.NDArray[np.float32], int]:
        """Takes one step on a batch of any size; returns what `advance` does."""
        loss, correct = self._one_step(tf.constant(features), tf.constant(labels))
        return np.array([loss]), int(correct)

    def restart(self) -> None:
        """Has the optimizer forget all: a learning rate that has no course is to be set anew."""
        for variable in self.optimizer.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def _trace_many_steps(
        self, features: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`steps` steps, on the rows `order[i]`: float32[chunk_steps] losses, correct count."""

        def body(step: tf.Tensor, losses: Any, correct: tf.Tensor) -> tuple[Any, ...]:
            rows = order[step]
            loss, hits = self._trace_one_step(tf.gather(features, rows), tf.gather(labels, rows))
            return step + 1, losses.write(step, loss), correct + hits

        none = tf.constant(0), tf.TensorArray(tf.float32, self.chunk_steps, element_shape=()), 0
        # Not a loop over a range: XLA would compile it anew for every number of steps.
        _, losses, correct = tf.while_loop(lambda step, *_: step < steps, body, none)
        return losses.stack(), correct

    def _trace_one_step(
        self, features: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step: the mean loss and the number of right predictions."""
        with tf.GradientTape() as tape:
            logits = self.model(features, training=True)
            # In half precision the loss and its gradient would keep 2 to 3 digits.
            logits = keras.ops.cast(logits, keras.backend.result_type(logits.dtype, "float32"))
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        variables = self.model.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        hits = tf.equal(tf.argmax(logits, 1, output_type=labels.dtype), labels)
        return tf.cast(loss, tf.float32), tf.reduce_sum(tf.cast(hits, tf.int32))


def shared(array: npt.NDArray[np.float32]) -> tf.Tensor:
    """The array as a tensor on the current device; on the CPU in the same memory.

    `tf.constant` would copy it. NumPy also asks the kernel for huge pages, TensorFlow does not, and
    fetching scattered rows from those is measurably faster.
    """
    return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))


def resident(
    features: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Examples as `Program` takes them: float32[N, D] in the same memory, and int32[N].

    Labels may be fewer, where features end with empty rows.
    """
    return shared(features), tf.constant(np.pad(labels, (0, len(features) - len(labels))))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Tracing makes objects by the hundred thousand, and all of them are needed at first."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
