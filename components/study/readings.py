"""From records of trainings to pairs of numbers: what is compared, by seed, up to which step.

A value is read of a training `until` the step that both trainings of a pair reach: some controls
are trained for fewer epochs, and then only what can be compared is.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from bnpipe.components.study.results import Experiment, Training
from bnpipe.components.study.statistics import Paired, Scale

USABLE = 0.005
"""A rate is usable if it costs no more than half a point against the arm's best rate."""

Trainings = Sequence[Training]
Value = Callable[[Training, int], "float | None"]


class Trained:
    """The trainings of a study by what sets them apart."""

    def __init__(self, trainings: Iterable[Training]) -> None:
        self._by_arm: dict[tuple[Experiment, str], list[Training]] = defaultdict(list)
        for training in trainings:
            self._by_arm[training.experiment, training.arm].append(training)

    def of(self, experiment: Experiment, arm: str, **where: object) -> Trainings:
        """The trainings of an arm; `where` names further fields."""
        found = self._by_arm.get((experiment, arm), [])
        return [t for t in found if all(getattr(t, k) == v for k, v in where.items())]

    def article(self, arm: str) -> Trainings:
        """At the article's own rate and size."""
        return self.of("main", arm) or self.of("control", arm)

    def own(self, arm: str) -> Trainings:
        """At the rate that the sweep chose for the arm, which may be the article's."""
        return self.of("own_rate", arm)


def pair(
    x: Trainings, y: Trainings, value: Value, scale: Scale, margin: float, of_y: Value | None = None
) -> Paired | None:
    """Both arms' numbers of the seeds that both have; None where there are none.

    Args:
        x: of the arm that is asked about.
        y: of the arm that it is compared with.
        value: reads the number of a training.
        scale: as for `Paired`.
        margin: as for `Paired`.
        of_y: reads the number of a training of `y`, if in another way.
    """
    others = {training.seed: training for training in y}
    found, cap = [], 0
    for training in x:
        if (other := others.get(training.seed)) is not None:
            until = min(training.steps, other.steps)
            numbers = value(training, until), (of_y or value)(other, until)
            if None not in numbers:
                found.append((training.seed, *numbers))
                cap = max(cap, until)
    return by_seed(found, scale, margin, cap)


def by_seed(
    found: Iterable[tuple[int, float | None, float | None]],
    scale: Scale,
    margin: float,
    cap: float = math.inf,
) -> Paired | None:
    """The pairs of (seed, x, y); None where there are none."""
    rows = np.array(sorted(found), dtype=np.float64)
    if not rows.size:
        return None
    seeds, x, y = rows.T
    return Paired(x, y, scale, margin, seeds.astype(np.int64), cap)


def steps_to(level: float) -> Value:
    """The first step at which the validation accuracy was seen to be so high; infinite if never.

    None where there is no curve to see it on.
    """

    def steps(training: Training, until: int) -> float | None:
        if not training.curve_steps:
            return None
        curve = zip(training.curve_steps, training.curve_accuracy, strict=True)
        reached = (step for step, accuracy in curve if accuracy >= level and step <= until)
        return float(next(reached, math.inf))

    return steps


def at_the_end(name: str) -> Value:
    """A field of trainings that end with the same step."""
    return lambda training, until: getattr(training, name) if training.steps == until else None


accuracy = at_the_end("test_accuracy")


def small_gap(training: Training, until: int) -> float | None:
    """Test accuracy minus train accuracy: the gap, negative, so that more is better."""
    test, train = accuracy(training, until), training.train_accuracy
    return None if test is None or train is None else test - train


def imbalance(training: Training, until: int) -> float | None:
    """The factor, at least 1, between the gradients of first and last layer; mean over steps.

    None where a gradient was zero or no number: no average can say what that is worth, so the pair
    is left out.
    """
    rows = zip(training.gradient_steps, training.gradient_ratio or (), strict=False)
    ratios = [ratio for step, ratio in rows if step <= until]
    if not ratios or any(ratio is None or ratio <= 0 for ratio in ratios):
        return None
    return math.exp(sum(abs(math.log(ratio)) for ratio in ratios if ratio) / len(ratios))


def shifted(name: str) -> Value:
    """The mean over the steps of a series of `results.Shift`."""

    def mean(training: Training, until: int) -> float | None:
        if training.shift is None:
            return None
        rows = zip(training.shift.steps, getattr(training.shift, name), strict=True)
        finite = [value for step, value in rows if step <= until and value is not None]
        return sum(finite) / len(finite) if sum(finite) > 0 else None

    return mean


def accuracy_at(size: int) -> Value:
    """Test accuracy when so many images are normalised together."""
    return lambda training, until: (training.accuracy_by_batch or {}).get(str(size))


def usable_rate(accuracies: Mapping[float, float]) -> float:
    """The largest learning rate that costs at most `USABLE` against the best one."""
    best = max(accuracies.values())
    return max(rate for rate, accuracy in accuracies.items() if accuracy >= best - USABLE)


def usable_rates(trained: Trained, arm: str, optimizers: Sequence[str]) -> dict[int, float]:
    """The inverse of the largest usable rate, by seed; over optimizers their geometric mean."""
    logs: dict[int, list[float]] = defaultdict(list)
    for optimizer in optimizers:
        accuracies: dict[int, dict[float, float]] = defaultdict(dict)
        for t in trained.of("sweep", arm, optimizer=optimizer):
            accuracies[t.seed][t.learning_rate] = t.validation_accuracy or 0.0
        for seed, of_seed in accuracies.items():
            logs[seed].append(math.log(usable_rate(of_seed)))
    return {seed: math.exp(-sum(found) / len(found)) for seed, found in logs.items()}
