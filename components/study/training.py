"""One training of a study, by the product's own network and program."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.network.examples import Floats, InMemory, epoch_order
from bnpipe.components.network.program import CHUNK_STEPS, Program, resident, shared
from bnpipe.components.study.arms import ARMS, Arm, batch_inference
from bnpipe.components.study.measures import (
    GradientCourse,
    Probe,
    ShiftCourse,
    Values,
    assign,
    values,
)
from bnpipe.components.study.plan import (
    BATCH_SIZE,
    CURVE,
    GRADIENT_STEPS,
    SHIFT_STEPS,
    Optimizer,
    Unit,
    scored_steps,
)
from bnpipe.components.study.results import Training

SGD_MOMENTUM = 0.9
PROBED_IMAGES = 256  # on which gradients and layer inputs are measured
ESTIMATED_IMAGES = 2_048  # from which statistics are estimated before training
SCORED_IMAGES = 10_000  # of the train split: as many as MNIST has to test on
INFERENCE_BATCHES = (1, 2, 8, 32, 256)
ALIGNMENT = 64  # bytes
MEASURED_AT = {"curve": CURVE, "gradients": GRADIENT_STEPS, "shift": SHIFT_STEPS}


@dataclass(frozen=True)
class Data:
    """The splits, in memory.

    Attributes:
        train: at most `MOST_IMAGES`.
        validation: what curves and rates go by.
        test: what is asked in the last tenth of a training.
        doubtful: the test images of doubtful label, bool[N].
        classes: how many labels there are.
        live: the features that are here, of those that the images have, bool[D]; None: all.
    """

    train: InMemory
    validation: InMemory
    test: InMemory
    doubtful: npt.NDArray[np.bool_]
    classes: int
    live: npt.NDArray[np.bool_] | None = None

    @property
    def features(self) -> int:
        """Size of a row."""
        return self.train.features.shape[1]

    @functools.cached_property
    def asked(self) -> Mapping[str, tuple[tf.Tensor, tf.Tensor]]:
        """What accuracies are of: validation, test, and the first rows of train."""
        scored = self.train.features[:SCORED_IMAGES], self.train.labels[:SCORED_IMAGES]
        splits = {"train": InMemory(*scored), "validation": self.validation, "test": self.test}
        return {n: (_tensor(s.features), tf.constant(s.labels)) for n, s in splits.items()}


@dataclass
class Bench:
    """Trains one network, at one depth and by one optimizer: what it compiles serves all trainings.

    Args:
        data: the images.
        arm: one that has this network.
        depth: its hidden layers.
        optimizer: with its defaults, but for SGD's momentum.

    Attributes:
        loop_seconds: of the processor, for all steps so far.
    """

    data: Data
    arm: Arm
    depth: int
    optimizer: Optimizer
    loop_seconds: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        arm, data = self.arm, self.data
        self.model = arm.build(data.features, data.classes, self.depth, data.train.features)
        rate = 1.0  # of every training its own
        optimizer = {
            "adam": keras.optimizers.Adam(rate, name="optimizer"),
            "sgd": keras.optimizers.SGD(rate, momentum=SGD_MOMENTUM, name="optimizer"),
        }[self.optimizer]
        self._examples = resident(data.train.held, data.train.labels)
        self._program = Program(self.model, optimizer, BATCH_SIZE, CHUNK_STEPS)
        self._program.compile(*self._examples)
        sample = InMemory(*data.train.rows(np.arange(min(data.train.size, ESTIMATED_IMAGES))))
        self._sample = sample
        probed = sample.features[:PROBED_IMAGES], sample.labels[:PROBED_IMAGES]
        self._probe = Probe(self.model, self.depth, *probed)
        self._inference: dict[int, keras.Model] = {}
        self._begins: dict[tuple[Arm, int], Values] = {}  # a sweep comes back to each eight times

    def restart(self, arm: Arm, learning_rate: float, seed: int) -> None:
        """Goes back to before the first step; the rate is a variable of what was compiled."""
        begin = arm, seed
        if begin in self._begins:
            assign(self.model.variables, self._begins[begin])
        else:
            arm.restart(self.model, self.depth, seed, self._sample, self.data.live)
            self._begins[begin] = values(self.model.variables)
        self._program.restart()
        self._program.optimizer.learning_rate.assign(learning_rate)

    def advance(self, seed: int, images: int, start: int, stop: int) -> bool:
        """Takes the steps from `start` to `stop`; False if a loss was not finite."""
        began = time.process_time()
        finite = True
        for rows in _batches(seed, images, start, stop, self._program.chunk_steps):
            losses, _ = self._program.advance(*self._examples, rows)
            finite &= bool(np.isfinite(losses).all())
        self.loop_seconds += time.process_time() - began
        return finite

    def train(self, unit: Unit, learning_rate: float) -> list[Training]:
        """Trains and measures one unit; with `batches` there is a second record of its weights."""
        self.restart(ARMS[unit.arm], learning_rate, unit.seed)
        common: dict[str, Any] = {
            "optimizer": unit.optimizer,
            "learning_rate": learning_rate,
            "seed": unit.seed,
            "depth": unit.depth,
            "train_images": unit.images,
            "batch_size": BATCH_SIZE,
            "steps": unit.steps,
        }
        course, finite = self._course(unit)
        common |= {
            "validation_accuracy": self._accuracy("validation"),
            "diverged": not finite or not self._weights_are_finite(),
        }
        records = [Training(experiment=unit.experiment, arm=unit.arm, **common, **course)]
        if "batches" in unit.measures:
            accuracies = {str(size): self._inferred_by(size) for size in INFERENCE_BATCHES}
            by_batch = {size: found for size, found in accuracies.items() if found is not None}
            custom: dict[str, Any] = {"experiment": "custom", "arm": "custom_batch"}
            custom |= self._scores(unit)
            records.append(Training(**custom, **common, accuracy_by_batch=by_batch))
        return records

    def _course(self, unit: Unit) -> tuple[dict[str, Any], bool]:
        """Trains; what a record has of the way, and whether all losses were finite."""
        curve: list[tuple[int, float]] = []
        scores: list[dict[str, float]] = []
        gradients, shift = GradientCourse(), ShiftCourse()
        measured = {**MEASURED_AT, "test": scored_steps(unit.steps)}
        at = {m: set(steps) if m in unit.measures else set() for m, steps in measured.items()}
        finite, done = True, 0
        for mark in sorted({unit.steps, *(s for s in set().union(*at.values()) if s < unit.steps)}):
            if done < mark:
                finite &= self.advance(unit.seed, unit.images, done, mark)
                done = mark
            if mark in at["curve"]:
                curve.append((mark, self._accuracy("validation")))
            if mark in at["gradients"]:
                gradients.record(mark, self._probe.gradients()[0])
            if mark in at["test"]:
                scores.append(self._scores(unit))
            if mark in at["shift"] and mark < unit.steps:
                finite &= self._record_shift(shift, unit, mark)
                done = mark + 1
        fields: dict[str, Any] = {
            "curve_steps": tuple(step for step, _ in curve),
            "curve_accuracy": tuple(accuracy for _, accuracy in curve),
        }
        for name in scores[0] if scores else ():
            fields[name] = statistics.fmean(score[name] for score in scores)
        return {**fields, **gradients.fields(), **shift.fields()}, finite

    def _scores(self, unit: Unit) -> dict[str, float]:
        """The accuracies on test and train images, by their fields of a record."""
        hits = self._probe.hits(*self.data.asked["test"])
        scores = {
            "test_accuracy": float(hits.mean()),
            "train_accuracy": self._accuracy("train", unit.images),
        }
        if self.data.doubtful.any():
            scores["test_accuracy_clean"] = float(hits[~self.data.doubtful].mean())
        return scores

    def _record_shift(self, shift: ShiftCourse, unit: Unit, step: int) -> bool:
        """Takes one step, and tells what that of the layers below does to the last hidden one.

        The same images and the same noise are behind both gradients.
        """
        upper = self._probe.upper()
        rest = self.model.non_trainable_variables
        gradients, inputs = self._probe.gradients()
        old_upper, old_rest = values(upper), values(rest)
        finite = self.advance(unit.seed, unit.images, step, step + 1)
        new_upper, new_rest = values(upper), values(rest)
        assign([*upper, *rest], old_upper + old_rest)
        changed, _ = self._probe.gradients()
        assign([*upper, *rest], new_upper + new_rest)
        shift.record(step, inputs, gradients[-1:], changed[-1:])
        return finite

    def _accuracy(self, split: str, images: int | None = None) -> float:
        """Of a split, or of its first images."""
        features, labels = self.data.asked[split]
        if images is not None and images < len(labels):
            features, labels = features[:images], labels[:images]
        return float(self._probe.hits(features, labels).mean())

    def _weights_are_finite(self) -> bool:
        return all(np.isfinite(value).all() for value in values(self.model.variables))

    def _inferred_by(self, size: int) -> float | None:
        """Test accuracy of the article's layer, on as many whole batches as there are."""
        rows = self.data.test.size // size * size
        if not rows:
            return None
        if size not in self._inference:
            shape = self.data.features, self.data.classes
            self._inference[size] = batch_inference(*shape, size)
        model = self._inference[size]
        assign(model.variables, values(self.model.variables))
        logits = model(self.data.test.features[:rows], training=True).numpy()
        return float(np.mean(logits.argmax(1) == self.data.test.labels[:rows]))


def _batches(
    seed: int, images: int, start: int, stop: int, at_most: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The rows of the steps from `start` to `stop`, int64[n, BATCH_SIZE], of one epoch each.

    They are in the order of the product's training; what is left of an epoch is left out.
    """
    per_epoch = images // BATCH_SIZE
    while start < stop:
        epoch, step = divmod(start, per_epoch)
        count = min(stop - start, per_epoch - step, at_most)
        order = _order(seed, epoch, images)
        yield order[step * BATCH_SIZE : (step + count) * BATCH_SIZE].reshape(count, BATCH_SIZE)
        start += count


# An epoch is cut where something is measured, up to forty times.
_order = functools.lru_cache(maxsize=1)(epoch_order)


def _tensor(array: Floats) -> tf.Tensor:
    """The array in the same memory, where that is aligned as TensorFlow's operations expect."""
    return shared(array) if array.ctypes.data % ALIGNMENT == 0 else tf.constant(array)
