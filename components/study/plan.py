"""The trainings of a study, as one table, and the single trainings that it comes to.

Sizes follow a measurement: alone a step takes 140 to 155 us of a core, beside another process 160
to 225 us, so a training of ten epochs takes about 3 s. So the controls that are asked for speed
only end after four epochs; they are compared with the main arms on the curve, whose steps all
trainings share.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from bnpipe.components.study.params import Params
from bnpipe.components.study.results import Experiment

Optimizer = Literal["adam", "sgd"]
Measure = Literal["curve", "test", "gradients", "shift", "batches"]

ARTICLE_RATE = 1e-3
BATCH_SIZE = 32
MOST_IMAGES = 50_000
FEW_IMAGES = 1_000
RATES: Mapping[Optimizer, tuple[float, ...]] = {
    # From where it is too slow for a thousand steps to where also batch normalisation fails.
    "adam": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0),
    "sgd": (3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0),
}
# Dense where curves are steep: one evaluation costs as much as fifty steps.
CURVE = (
    *(25, 50, 75, 100, 150, 200, 250, 300, 400, 500, 600, 800, 1000, 1200, 1400, 1600),
    *range(2000, 6400, 400),
    *range(6400, 10**6, 1600),
)
GRADIENT_STEPS = (0, 1, 10, 25, 50, 100, 150, 200, 250, 300)
SHIFT_STEPS = (0, 100, 200, 400, 800, 1600, 3200, 6000)


@dataclass(frozen=True)
class Row:
    """One line of the plan: every arm with every optimizer, depth, rate and seed.

    Attributes:
        experiment: the part of the study.
        arms: names of `arms.ARMS`.
        seeds: how many, when the main comparison has `Params().seeds`.
        epochs: of its images, when the main comparison has `Params().epochs`.
        images: at most so many training images.
        steps: at most so many; without epochs, as many.
        depths: hidden layers.
        optimizers: of several, each has seeds of its own, so that what they tell is independent.
        rates: the article's, all of `RATES`, or the one that the sweep chose for the arm.
        measures: what is recorded beside the accuracy on validation images at the end; `test` is
            the mean accuracy on test and train images.
    """

    experiment: Experiment
    arms: tuple[str, ...]
    seeds: int
    epochs: int = 0
    images: int = MOST_IMAGES
    steps: int = 0
    depths: tuple[int, ...] = (2,)
    optimizers: tuple[Optimizer, ...] = ("adam",)
    rates: Literal["article", "sweep", "own"] = "article"
    measures: frozenset[Measure] = frozenset({"test"})


_CURVE: frozenset[Measure] = frozenset({"curve"})
_SCORED: frozenset[Measure] = _CURVE | {"test"}
PLAN = (
    Row(
        *("sweep", ("none", "batch", "layer", "data_init"), 5, 1),
        steps=1_000,
        optimizers=("adam", "sgd"),
        rates="sweep",
        measures=frozenset(),
    ),
    Row("main", ("batch",), 16, 10, measures=_SCORED | {"shift", "batches"}),
    Row("main", ("none",), 16, 10, measures=_SCORED | {"shift"}),
    Row("control", ("moving",), 16, 10, measures=_SCORED),
    Row("dropout", ("none_dropout",), 8, 10),
    Row("dropout", ("batch_dropout",), 4, 10),  # decides nothing
    Row("control", ("noisy",), 8, 6, measures=_CURVE | {"shift"}),
    Row("control", ("standardized",), 16, 4, measures=_CURVE),
    Row("control", ("layer", "data_init"), 4, 4, measures=_CURVE),
    Row("own_rate", ("none", "batch"), 16, 4, rates="own", measures=_SCORED),
    Row("small", ("none", "batch", "moving", "none_dropout", "batch_dropout"), 8, 30, FEW_IMAGES),
    Row("ghost", ("ghost_8", "ghost_16", "ghost_32"), 8, 30, FEW_IMAGES),
    # Last: a process is so large after these networks that a new one would have to go on.
    Row(
        "depth",
        ("batch", "none", "he"),
        8,
        steps=300,
        depths=(20, 8, 2),
        measures=frozenset({"gradients"}),
    ),
)
MIN_PAIRS = 8
"""Fewer are never decided: all signs alike have p = 2/2^7 = 0.016 with seven, more than 0.05/6."""
SCORES = 5
"""A training's accuracy is the mean at so many steps of its last tenth: of ten epochs, the
difference of two arms varies by 0.08 to 0.13 points from seed to seed, at one step by 0.16 to
0.23."""


@dataclass(frozen=True)
class Unit:
    """One training; `learning_rate` None is the one that the sweep chooses for the arm."""

    experiment: Experiment
    arm: str
    optimizer: Optimizer
    depth: int
    learning_rate: float | None
    seed: int
    images: int
    steps: int
    measures: frozenset[Measure]

    @property
    def name(self) -> str:
        """Unlike that of any other unit of a study."""
        rate = "own" if self.learning_rate is None else f"{self.learning_rate:g}"
        return (
            f"{self.experiment}-{self.arm}-{self.optimizer}-{self.depth}-{rate}-{self.images}"
            f"-{self.seed}"
        )

    @property
    def group(self) -> str:
        """The units of a group share one compilation, and follow one another."""
        return f"{self.experiment}-{self.arm}-{self.optimizer}-{self.depth}"


def units(params: Params, images: int) -> list[Unit]:
    """All trainings, in the order of the records.

    Args:
        params: the component's parameters.
        images: in the train split.
    """
    wanted = set(params.experiments)
    wanted |= {"sweep"} if "own_rate" in wanted else set()
    wanted |= {"main"} if "custom" in wanted else set()
    return [
        unit for row in PLAN if row.experiment in wanted for unit in _of_row(row, params, images)
    ]


def _of_row(row: Row, params: Params, images: int) -> Iterator[Unit]:
    images = min(images, row.images)
    seeds = scaled(row.seeds, params)
    epochs = row.epochs and max(1, round(row.epochs * params.epochs / Params().epochs))
    steps = min(n for n in (row.steps, epochs * (images // BATCH_SIZE)) if n)
    for arm, depth, (place, optimizer) in itertools.product(
        row.arms, row.depths, enumerate(row.optimizers)
    ):
        rates: dict[str, tuple[float | None, ...]] = {
            "article": (ARTICLE_RATE,),
            "sweep": RATES[optimizer],
            "own": (None,),
        }
        for rate, seed in itertools.product(rates[row.rates], range(seeds)):
            yield Unit(
                *(row.experiment, arm, optimizer, depth, rate, place * seeds + seed),
                *(images, steps, row.measures),
            )


def scored_steps(steps: int) -> set[int]:
    """After which of its steps the accuracy of a training is measured, the last among them.

    They are fewer than `SCORES` where a tenth is of fewer steps.
    """
    return {steps - round(steps * n / SCORES / 10) for n in range(SCORES)}


def scaled(seeds: int, params: Params) -> int:
    """So many seeds of the plan as `params` makes of them, but not so few that nothing is decided.

    A study of eight seeds or more has eight of each arm that the plan gives as many.
    """
    least = MIN_PAIRS if params.seeds >= MIN_PAIRS else 1
    return max(-(-seeds * params.seeds // Params().seeds), min(seeds, least))
