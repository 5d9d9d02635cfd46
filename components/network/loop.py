"""The training loop: epoch by epoch, with progress, checkpoints and an end.

The semantics are those of `model.fit(features, labels, batch_size=..., epochs=...)` with the order
of the examples made explicit: every epoch is a permutation drawn from the seed and the epoch, cut
into batches, of which the last may be smaller.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
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
from bnpipe.components.network.program import CHUNK_STEPS, Program, resident

CHUNK_ROWS = 2**18  # of one call, whose numbers are held three times
CHUNK_BYTES = 64 * 2**20  # features of one call when they come from disk


@dataclass
class Trainer:
    """Trains one model.

    Args:
        program: takes the steps, see `program_for`; its model's variables are changed.
        params: the component's parameters.
        train: what to train on.
        validation: what to evaluate after every epoch.
        scratch: the folder of the checkpoints.
        progress: takes (steps done, steps in all, note).

    Attributes:
        position: how far training has come, with the history.
        resumed_from: steps that a checkpoint spared.
        compile_seconds: time that tracing and compiling took here.
        loop_seconds: time of the training steps alone.
        steps_run: the steps that were run in that time.
    """

    program: Program
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
        self.model, self.optimizer = self.program.model, self.program.optimizer
        self.best: Arrays = []
        self._saved_at = time.monotonic()

    def fit(self) -> None:
        """Trains to the end, from the last checkpoint if there is one.

        Raises:
            TrainingError: the loss, or a weight at the end, is not a finite number.
        """
        self._resume()
        self._compile()
        while self.position.epoch < self.params.epochs and not self.position.stopped:
            self._train_epoch()
            self._close_epoch()
            self._checkpoint()
        if self.best:
            _assign(self.model.variables, self.best)
        self._check_weights()

    def _train_epoch(self) -> None:
        """Trains the rest of the epoch under way."""
        position, batch = self.position, self.params.batch_size
        order = epoch_order(self.params.seed, position.epoch, self.train.size)
        while position.step < self.full_steps:
            stop = min(position.step + self.program.chunk_steps, self.full_steps)
            rows = order[position.step * batch : stop * batch].reshape(-1, batch)
            started = time.perf_counter()
            losses, correct = self.program.advance(*self._fetched(rows))
            self._count(losses, batch, correct, started)
            position.step = stop
            self._report()
            if stop < self.full_steps:
                self._checkpoint()
        if self.rest:
            started = time.perf_counter()
            features, labels = self.train.rows(order[self.full_steps * batch :])
            losses, correct = self.program.step(features, labels)
            self._count(losses, self.rest, correct, started)

    def _fetched(
        self, rows: npt.NDArray[np.int64]
    ) -> tuple[tf.Tensor, tf.Tensor, npt.NDArray[np.int64]]:
        """Features, labels, and the rows of them that make up each step."""
        if isinstance(self.train, InMemory):
            return *self._resident, rows
        missing = self.program.chunk_steps * rows.shape[1] - rows.size  # a program has one shape
        features, labels = self.train.rows(np.pad(rows.ravel(), (0, missing)))
        order = np.arange(rows.size).reshape(rows.shape)
        return tf.constant(features), tf.constant(labels), order

    @functools.cached_property
    def _resident(self) -> tuple[tf.Tensor, tf.Tensor]:
        assert isinstance(self.train, InMemory)
        return resident(self.train.held, self.train.labels)

    def _compile(self) -> None:
        """Has the program ready, unless there is nothing left to train."""
        if self.position.stopped or self.position.epoch == self.params.epochs:
            return
        started = time.perf_counter()
        if self.full_steps:
            none = np.zeros((0, self.params.batch_size), np.int64)
            self.program.compile(*self._fetched(none)[:2])
        if self.rest:
            self.program.compile_step()
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


def program_for(model: keras.Model, params: Params, train: Split) -> Program:
    """What trains a network on examples; those on disk come in smaller chunks."""
    batch = params.batch_size
    steps = -(-train.size // batch)
    chunk_steps = min(CHUNK_STEPS, CHUNK_ROWS // batch)
    if not isinstance(train, InMemory):
        fetched = CHUNK_BYTES // (4 * batch * model.input_shape[-1])
        chunk_steps = min(chunk_steps, train.size // batch, fetched)
    return Program(model, _optimizer(params, params.epochs * steps), batch, max(1, chunk_steps))


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
