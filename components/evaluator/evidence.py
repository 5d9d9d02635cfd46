"""The counts and numbers that the gate decides on, cut down from the predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bnpipe.components.evaluator import statistics
from bnpipe.components.evaluator.predictions import Predictions, Slice

CANDIDATE = "candidate"
BASELINE = "baseline"
CHAMPION = "champion"


class Pair(NamedTuple):
    """Candidate and reference on the same images.

    Attributes:
        only_candidate: images that only the candidate gets right.
        only_reference: images that only the reference gets right.
    """

    only_candidate: int
    only_reference: int


@dataclass(frozen=True)
class SliceEvidence:
    """The candidate's counts on a part of the images.

    Attributes:
        name: as `Slice.name`.
        columns: the columns it is cut by.
        images: how many images it has.
        correct: how many of them the candidate gets right.
        against: the paired counts by reference model.
    """

    name: str
    columns: tuple[str, ...]
    images: int
    correct: int
    against: Mapping[str, Pair] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN for an empty slice."""
        return self.correct / self.images if self.images else float("nan")

    def lower_bound(self, level: float) -> float:
        """One-sided Clopper-Pearson lower bound of the accuracy at confidence `1 - level`."""
        return float(statistics.lower_bound(self.correct, self.images, level))

    def difference(self, reference: str) -> float:
        """Accuracy minus the reference's; NaN for an empty slice."""
        won, lost = self.against[reference]
        return (won - lost) / self.images if self.images else float("nan")


@dataclass(frozen=True)
class Evidence:
    """All numbers that the gate decides on.

    Attributes:
        overall: the whole split; None when the candidate has no usable answers.
        slices: its parts.
        guessing: accuracy of always naming the most frequent class of the split.
        calibration_error: expected calibration error of the candidate.
        calibration_bound: its one-sided upper bound.
        batch_difference: largest change of a probability when a row is asked for alone.
        rounding: the candidate's `Model.rounding`.
        problems: why a model has no usable answers, by model.
        champion: what the champion is called, e.g. `version 3`; empty when there is none.
        tfma_failures: the thresholds that are broken by TFMA's own validation, as sentences; None
            when TFMA did not validate.
    """

    overall: SliceEvidence | None
    slices: tuple[SliceEvidence, ...] = ()
    guessing: float = 0.0
    calibration_error: float = float("nan")
    calibration_bound: float = float("nan")
    batch_difference: float = float("nan")
    rounding: float = 0.0
    problems: Mapping[str, str] = field(default_factory=dict)
    champion: str = ""
    tfma_failures: tuple[str, ...] | None = None


def count(
    predictions: Predictions, slices: Sequence[Slice], references: Sequence[str]
) -> tuple[SliceEvidence, ...]:
    """The candidate's counts on every slice, and the paired counts against each reference."""
    ours = predictions.correct(CANDIDATE)
    theirs = {name: predictions.correct(name) for name in references}
    return tuple(
        SliceEvidence(
            name=part.name,
            columns=part.columns,
            images=int(part.rows.sum()),
            correct=int(ours[part.rows].sum()),
            against={
                name: Pair(
                    only_candidate=int((ours & ~other)[part.rows].sum()),
                    only_reference=int((~ours & other)[part.rows].sum()),
                )
                for name, other in theirs.items()
            },
        )
        for part in slices
    )
