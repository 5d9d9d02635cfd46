"""The evaluator's section of the config: measurements, and the demands of the gate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from bnpipe.components.base import Level

SLICES_SHARE = 0.2
"""Share of the error level that looking at slices may cost: an equal model is then called worse, on
the whole or on any slice, with probability `level` at most (Bonferroni)."""

Share = Annotated[float, Ge(0.0), Le(1.0)]
ErrorLevel = Annotated[float, Gt(0.0), Lt(0.5)]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The level of each rule of the gate: block, only warn, or be off."""

    usable_champion: Level = "block"
    """The champion, if there is one, gave answers that can be evaluated."""
    no_empty_slice: Level = "block"
    """Every class, and every other slice, has images to judge by."""
    accuracy_floor: Level = "block"
    """The lower bound of the accuracy reaches `min_accuracy`."""
    worst_class: Level = "block"
    """The lower bound on every class reaches `min_class_accuracy`."""
    slice_floor: Level = "block"
    """The lower bound on every slice by one other column reaches `min_slice_accuracy`."""
    baseline_non_inferior: Level = "block"
    """The accuracy is shown to be less than `margin` below the baseline's."""
    baseline_not_worse: Level = "block"
    """McNemar's test does not call the candidate worse than the baseline."""
    baseline_slices: Level = "block"
    """No slice is shown to be worse than the baseline's by more than `slice_margin`."""
    champion_non_inferior: Level = "block"
    """The accuracy is shown to be less than `margin` below the champion's."""
    champion_not_worse: Level = "block"
    """McNemar's test does not call the candidate worse than the champion."""
    champion_slices: Level = "block"
    """No slice is shown to be worse than the champion's by more than `slice_margin`."""
    calibration: Level = "block"
    """The upper bound of the expected calibration error is `max_calibration_error` at most."""
    batch_invariance: Level = "block"
    """A row asked for alone gets the answer that it gets inside a batch."""
    tfma_validation: Level = "block"
    """TFMA's own validation of the same thresholds, on point values, agrees."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """The measurements, and all that a candidate must show to be blessed."""

    split: Literal["train", "validation", "test"] = "test"
    """The split that is evaluated."""
    slices: tuple[str, ...] = ("label", "ink_quartile", "label*ink_quartile")
    """Slicings beside the whole: a column of the examples, or columns joined by `*`."""
    batch_size: Annotated[int, Ge(1)] = 2048
    """Images per prediction call."""

    min_accuracy: Share = 0.96
    """Floor of the accuracy: its one-sided lower bound at `level` must reach it."""
    min_class_accuracy: Share = 0.85
    """Floor of the accuracy on the images of each single class, by the same bound."""
    min_slice_accuracy: Share = 0.85
    """Floor of the accuracy on every other slice by one column, by the same bound."""
    margin: Annotated[float, Gt(0.0), Lt(1.0)] = 0.01
    """Largest loss of accuracy against the baseline or the champion that is still non-inferior."""
    slice_margin: Share = 0.02
    """Largest true loss on one slice that is tolerated; more than that must be shown to block.

    Two trainings of one network that differ in their seed are truly different on a class: 14 MNIST
    networks by 0.8 points (standard deviation, sampling noise taken out), which over ten classes
    comes to about 2 points on some class. Of 86 pairs of them, 22 are blocked at a margin of 0, 10
    at half a point and none from 1 point on."""
    judge_crossed_slices: bool = True
    """Judges slices by several columns too; false only reports them."""
    max_calibration_error: Share = 0.05
    """Ceiling of the expected calibration error: its upper bound at `level` must stay below it."""
    batch_tolerance: Annotated[float, Ge(0.0)] = 1e-5
    """Largest difference of a probability between a row alone and the same row in a batch."""

    level: ErrorLevel = 0.05
    """Error level of every one-sided bound, and of all tests for a loss together."""
    power: Annotated[float, Gt(0.5), Lt(1.0)] = 0.8
    """Power at which the smallest detectable loss of accuracy is reported."""
    confidence: Annotated[float, Gt(0.0), Lt(1.0)] = 0.95
    """Confidence of the two-sided intervals that are reported."""
    resamples: Annotated[int, Ge(100), Le(1_000_000)] = 2000
    """Bootstrap resamples."""
    seed: Annotated[int, Ge(0)] = 0
    """Seed of the bootstrap."""

    rules: Rules = Rules()
    """The level of every rule: block, warn or off."""

    golden_images: Annotated[int, Ge(1)] = 16
    """Images in each request of `golden.npz`."""
    pictures: Annotated[int, Ge(0)] = 24
    """Pictures kept of the worst mistakes, and of the images on which the models disagree."""

    @property
    def overall_level(self) -> float:
        """The part of `level` that the tests on the whole split may use, one per reference."""
        return (1 - SLICES_SHARE) * self.level

    @property
    def slices_level(self) -> float:
        """The part of `level` that the tests on the slices may use together."""
        return SLICES_SHARE * self.level
