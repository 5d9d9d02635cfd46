"""A rule's assessment of a model, and the words that the rules of the gate share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION, Evidence, SliceEvidence
from bnpipe.components.evaluator.params import Params

REFERENCE_NAMES = {
    BASELINE: "the network without batch normalisation",
    CHAMPION: "the champion",
}


@dataclass(frozen=True)
class Assessment:
    """A rule's opinion of a model, before config decides if it blocks.

    Attributes:
        passed: None when there was nothing to check.
        value: what was measured.
        bound: what it was held against.
        sentence: the same in words, or why nothing was checked.
        vacuous: why passing means nothing, e.g. a floor of 0; such a rule counts as off. Empty for
            a rule that a model which ignores the images would not pass.
    """

    passed: bool | None
    value: float | None
    bound: float | None
    sentence: str
    vacuous: str = ""


Rule = Callable[[Evidence, SliceEvidence, Params], Assessment]


def points(share: float, *, signed: bool = False) -> str:
    """A difference of accuracies in percentage points: `+0.29 points`."""
    return f"{100 * share:{'+' if signed else ''}.2f} points"


def called(reference: str, evidence: Evidence) -> str:
    """A reference's name in a sentence; the champion with its version."""
    if reference == CHAMPION and evidence.champion:
        return f"the champion ({evidence.champion})"
    return REFERENCE_NAMES[reference]


def part_name(part: SliceEvidence) -> str:
    """A slice's name in a sentence: `ink_quartile:0 x label:3` for a crossed one."""
    values = part.name.partition(":")[2].split("_X_")
    if len(values) != len(part.columns):
        return part.name  # `overall`, or a value that holds the separator itself
    return " x ".join(f"{c}:{v}" for c, v in zip(part.columns, values, strict=True))


def no_slices(wanted: str, missing: str, rule: str, bound: float) -> Assessment:
    """A rule about slices without slices: it was asked for, so it fails and says what to do."""
    sentence = (
        f"no slices by {wanted} to judge: add {missing} to evaluator.slices or set "
        f"evaluator.rules.{rule}=off"
    )
    return Assessment(False, None, bound, sentence)


def hollow_floor(floor: float, guessing: float) -> str:
    """Says that a model which ignores the images reaches a floor; empty when it does not."""
    if floor > guessing:
        return ""
    return f"a model that ignores the images reaches {guessing:.4f}, the floor is {floor:g}"
