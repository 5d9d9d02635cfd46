"""The training loop: hundreds of steps are one XLA program, so nothing is dispatched in between.

The semantics are those of `model.fit(features, labels, batch_size=..., epochs=...)` with the order
of the examples made explicit: every epoch is a permutation drawn from the seed and the epoch, cut
into batches, of which the last may be smaller.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.network import checkpoint
from bnpipe.components.network.checkpoint import Arrays, Position
from bnpipe.components.network.evaluation import evaluate
from bnpipe.components.network.examples import InMemory, Split, epoch_order
from bnpipe.components.network.params import Params, TrainingError

CHUNK_STEPS = 1000  # steps of one call: about a tenth of a second between progress and checkpoints
CHUNK_BYTES = 64 * 2**20  # features of one call when they come from disk


@dataclass
class Trainer:
    """Trains one model.

    Args:
        model: a model features -> logits; its variables are changed.
        params: the component's parameters.
        train: what to train on.
        validation: what to evaluate after every epoch.
        scratch: the folder of the checkpoints.
        progress: takes (steps done, steps in all, note).

    Attributes:
        position: how far training has come, with the history.
        resumed_from: steps that a checkpoint spared.
        compile_seconds: time that tracing and compiling took.
        loop_seconds: time of the training steps alone.
        steps_run: the steps that were run in that time.
    """

    model: keras.Model
    params: Params
    train: Split
    validation: Split
    scratch: Path
    progress: Callable[[int, int, str], None]
    position: Position = field(default_factory=Position)
    resumed_from: int = 0
    compile_seconds: float = 0.0
    loop_seconds: float = 0.0
    steps_run: int = 0

    def __post_init__(self) -> None:
        size, batch = self.train.size, self.params.batch_size
        self.full_steps, self.rest = divmod(size, batch)
        self.steps_per_epoch = self.full_steps + (self.rest > 0)
        self.chunk_steps = min(self.full_steps, CHUNK_STEPS)
        if isinstance(self.train, InMemory):
            self._resident = shared(self.train.features), tf.constant(self.train.labels)
        else:
            features = self.model.input_shape[-1]
            self.chunk_steps = min(self.chunk_steps, max(1, CHUNK_BYTES // (4 * batch * features)))
        self.optimizer = _optimizer(self.params, self.params.epochs * self.steps_per_epoch)
        self.optimizer.build(self.model.trainable_variables)
        self.best: Arrays = []
        # AutoGraph would rewrite the layers' Python code first, for a second and no gain.
        self._many_steps = tf.function(self._trace_many_steps, jit_compile=True, autograph=False)
        self._one_step = tf.function(self._trace_one_step, autograph=False)
        self._saved_at = time.monotonic()

    def fit(self) -> None:
        """Trains to the end, from the last checkpoint if there is one.

        Raises:
            TrainingError: the loss, or a weight at the end, is not a finite number.
        """
        self._resume()
        self.compile()
        while self.position.epoch < self.params.epochs and not self.position.stopped:
            self._train_epoch()
            self._close_epoch()
            self._checkpoint()
        if self.best:
            _assign(self.model.variables, self.best)
        self._check_weights()

    def advance(self, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], int]:
        """Takes a training step on every row of `rows`, int64[n, batch], with n <= `chunk_steps`.

        Returns:
            the losses before each step, float32[n], and how many examples were predicted right.
        """
        losses, correct = self._many_steps(*self._chunk(rows), tf.constant(len(rows)))
        return losses.numpy()[: len(rows)], int(correct)

    def _train_epoch(self) -> None:
        """Trains the rest of the epoch under way."""
        position, batch = self.position, self.params.batch_size
        order = epoch_order(self.params.seed, position.epoch, self.train.size)
        while position.step < self.full_steps:
            stop = min(position.step + self.chunk_steps, self.full_steps)
            rows = order[position.step * batch : stop * batch].reshape(-1, batch)
            started = time.perf_counter()
            losses, correct = self.advance(rows)
            self._count(losses, batch, correct, started)
            position.step = stop
            self._report()
            if stop < self.full_steps:
                self._checkpoint()
        if self.rest:
            started = time.perf_counter()
            features, labels = self.train.rows(order[self.full_steps * batch :])
            loss, correct = self._one_step(tf.constant(features), tf.constant(labels))
            self._count(np.array([loss]), self.rest, int(correct), started)

    def _chunk(self, rows: npt.NDArray[np.int64]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Features, labels, and the rows of them that make up each step, at most `chunk_steps`."""
        missing = self.chunk_steps - len(rows)
        padded = np.concatenate([rows, np.zeros((missing, rows.shape[1]), np.int64)])
        if isinstance(self.train, InMemory):
            return *self._resident, tf.constant(padded, tf.int32)
        features, labels = self.train.rows(padded.ravel())
        order = np.arange(padded.size, dtype=np.int32).reshape(padded.shape)
        return tf.constant(features), tf.constant(labels), tf.constant(order)

    def _trace_many_steps(
        self, features: tf.Tensor, labels: tf.Tensor, order: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """`steps` training steps, on the rows `order[i]`: float[steps] losses, correct count."""

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
        """One step of gradient descent: the mean loss and the number of right predictions."""
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

    def compile(self) -> None:
        """Compiles both programs; zero steps leave the variables as they are."""
        if self.position.stopped or self.position.epoch == self.params.epochs:
            return
        started = time.perf_counter()
        with _no_garbage_collection():
            if self.full_steps:
                rows = np.zeros((0, self.params.batch_size), np.int64)
                self._many_steps(*self._chunk(rows), tf.constant(0))
            if self.rest:
                features = tf.TensorSpec((self.rest, self.model.input_shape[-1]), tf.float32)
                labels = tf.TensorSpec((self.rest,), tf.int32)
                self._one_step.get_concrete_function(features, labels)
        self.compile_seconds = time.perf_counter() - started

    def _count(self, losses: Any, batch: int, correct: int, started: float) -> None:
        """Adds finished steps to the epoch's sums, and makes sure that they went well."""
        self.loop_seconds += time.perf_counter() - started
        self.steps_run += len(losses)
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            step = self.position.step + int(bad[0]) + 1
            raise TrainingError(
                f"the loss became {losses[bad[0]]} in epoch {self.position.epoch + 1}, step {step} "
                f"of {self.steps_per_epoch}: expected a finite number",
                hint=self._smaller_rate(),
            )
        self.position.loss_sum += float(np.sum(losses, dtype=np.float64)) * batch
        self.position.correct += correct

    def _check_weights(self) -> None:
        """Makes sure of the last step: its loss is from before it."""
        for variable in self.model.weights:
            if not np.isfinite(variable.numpy()).all():
                raise TrainingError(
                    f"{variable.path} has values that are not finite after the last step",
                    hint=self._smaller_rate(),
                )

    def _smaller_rate(self) -> str:
        rate = self.params.learning_rate
        return (
            f"try a smaller learning rate than {rate:g}, e.g. "
            f"--set trainer.learning_rate={rate / 10:g}"
        )

    def _close_epoch(self) -> None:
        """Evaluates the epoch that has just ended; early stopping may make it the last."""
        position = self.position
        loss, accuracy = evaluate(self.model, self.validation)
        position.epoch += 1
        position.history.append(
            {
                "epoch": position.epoch,
                "train_loss": position.loss_sum / self.train.size,
                "train_accuracy": position.correct / self.train.size,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
            }
        )
        position.step, position.loss_sum, position.correct = 0, 0.0, 0
        self._report()
        if not self.params.early_stopping_patience or loss is None:
            return
        best = position.history[position.best_epoch - 1]["validation_loss"]
        if position.best_epoch == 0 or best is None or loss < best:
            position.best_epoch = position.epoch
            self.best = _values(self.model.variables)
        elif position.epoch - position.best_epoch >= self.params.early_stopping_patience:
            position.stopped = True

    def _report(self) -> None:
        position = self.position
        note = f"epoch {min(position.epoch + 1, self.params.epochs)}/{self.params.epochs}"
        if position.history:
            last = position.history[-1]
            note += f", loss {last['train_loss']:.4f}"
            if last["validation_accuracy"] is not None:
                note += f", validation accuracy {last['validation_accuracy']:.4f}"
        done = position.epoch * self.steps_per_epoch + position.step
        self.progress(done, self.params.epochs * self.steps_per_epoch, note)

    def _checkpoint(self) -> None:
        if time.monotonic() - self._saved_at < self.params.checkpoint_seconds:
            return
        checkpoint.save(self.scratch, self.position, _values(self._state), self.best)
        self._saved_at = time.monotonic()

    def _resume(self) -> None:
        stored = checkpoint.load(self.scratch)
        if stored is None:
            return
        position, state, best = stored
        if [value.shape for value in state] != [tuple(v.shape) for v in self._state]:
            return
        self.position, self.best = position, best
        _assign(self._state, state)
        self.resumed_from = position.epoch * self.steps_per_epoch + position.step

    @property
    def _state(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.optimizer.variables]


def shared(array: npt.NDArray[np.float32]) -> tf.Tensor:
    """The array as a tensor on the current device; on the CPU in the same memory.

    `tf.constant` would copy it. NumPy also asks the kernel for huge pages, TensorFlow does not, and
    fetching scattered rows from those is measurably faster.
    """
    return tf.identity(tf.experimental.dlpack.from_dlpack(array.__dlpack__()))


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


def _optimizer(params: Params, steps: int) -> keras.optimizers.Optimizer:
    rate: Any = params.learning_rate
    if params.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(params.learning_rate, steps)
    kind = {"adam": keras.optimizers.Adam, "sgd": keras.optimizers.SGD}[params.optimizer]
    return kind(rate, name="optimizer")


def _values(variables: list[keras.Variable]) -> Arrays:
    return [variable.numpy() for variable in variables]


def _assign(variables: list[keras.Variable], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
