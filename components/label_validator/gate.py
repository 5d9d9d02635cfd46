"""The gate: the share of wrong labels of every part, its checks, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bnpipe.components.base import Decision, Grade, Level, Ruling, caveat, objection
from bnpipe.components.label_validator.answer_drift import LEVEL, AnswerDrift
from bnpipe.components.label_validator.confident import bounds
from bnpipe.components.label_validator.params import Params

WORTH_A_WORD = 0.2
"""The part of what is tolerated that is not even warned of."""


@dataclass(frozen=True)
class Part:
    """A split, or what one source brought to it.

    Attributes:
        name: `train`, or where spans were added `train/base`, `train/span-2026-11-20`.
        images: how many it has.
        share: estimated share of wrong labels.
        reference: what it is compared with; None for what is judged alone.
    """

    name: str
    images: int
    share: float
    reference: Part | None = None


def decide(
    parts: Sequence[Part],
    params: Params,
    drifts: Mapping[str, AnswerDrift] | None = None,
    why_not: str = "",
) -> Decision:
    """Holds every part against its bound; no parts: there was nothing to check.

    Args:
        parts: all splits and spans.
        params: levels and bounds.
        drifts: the champion's answers for new spans, by the span.
        why_not: the reason if there are no parts.
    """
    alone = [part for part in parts if part.reference is None]
    others = [part for part in parts if part.reference is not None]
    level = params.level / max(len(parts), 1)
    nothing = why_not or "nothing to check"
    # Who has learned a bad span sees wrong labels everywhere: the span comes first.
    rulings = (
        _ruling("part_labels", params.checks.part_labels, others, params, level, nothing),
        _ruling("own_labels", params.checks.own_labels, alone, params, level, nothing),
        _drift(params.checks.answer_drift, drifts or {}, nothing),
    )
    blocked = objection(rulings)
    if blocked:
        names = [r.name for r in rulings if r.outcome == "block"]
        to_go_on = " ".join(f"--set label_validator.checks.{name}=warn" for name in names)
        aside = f"see them: bnpipe report; to go on: {to_go_on}"
        return Decision(False, f"labels blocked: {blocked}; {aside} (or off)", rulings)
    images = sum(part.images for part in parts)
    said = (
        f"labels passed: {images:,} images{caveat(rulings)}"
        if images
        else f"labels not checked: {nothing}"
    )
    return Decision(True, said, rulings)


def _ruling(
    name: str, power: Level, parts: Sequence[Part], params: Params, level: float, nothing: str
) -> Ruling:
    """The worst part's."""
    if power == "off":
        return Ruling(name, power, "off", "switched off in config")
    if not parts:
        return Ruling(name, power, "not checked", nothing)
    graded = [_graded(part, params, level) for part in parts]
    _, outcome, row = max((excess, grade, -n) for n, (excess, grade) in enumerate(graded))
    worst = parts[-row]
    outcomes: tuple[Grade, ...] = ("ok", "warn", power)
    value, bound = worst.share, _tolerated(worst, params)
    return Ruling(name, power, outcomes[outcome], sentence(worst, params), value, bound)


def _drift(power: Level, drifts: Mapping[str, AnswerDrift], nothing: str) -> Ruling:
    """That of the span with the smallest p-value."""
    name = "answer_drift"
    if power == "off":
        return Ruling(name, power, "off", "switched off in config")
    if not drifts:
        return Ruling(name, power, "not checked", nothing)
    span, drift = min(drifts.items(), key=lambda item: item[1].p_value)
    outcome: Grade = power if drift.p_value < LEVEL / len(drifts) else "ok"
    sentence = f"of the champion's answers in {span}, {drift.sentence}"
    return Ruling(name, power, outcome, sentence, drift.p_value, LEVEL / len(drifts))


def _tolerated(part: Part, params: Params) -> float:
    return params.max_own_share if part.reference is None else params.max_wrong_share


def _graded(part: Part, params: Params, level: float) -> tuple[float, int]:
    """How far the share is shown to be above what it is held against; 2: too far, 1: a word."""
    beside, tolerated = 0.0, _tolerated(part, params)
    if part.reference is not None:
        level /= 2
        beside = float(bounds(part.reference.share, part.reference.images, level)[1])
    excess = float(bounds(part.share, part.images, level)[0]) - beside
    return excess, (excess > tolerated) + (excess > WORTH_A_WORD * tolerated)


def sentence(part: Part, params: Params) -> str:
    """E.g. `about 9.1% of the labels in train/span-7 are wrong (95% interval 6.1% to ...)`."""
    low, high = bounds(part.share, part.images, (1.0 - params.confidence) / 2.0)
    text = (
        f"about {part.share:.1%} of the labels of {part.images:,} images in {part.name} are wrong "
        f"({params.confidence:.0%} interval {low:.1%} to {high:.1%})"
    )
    if part.reference is None:
        return f"{text}, tolerated are {params.max_own_share:.1%}"
    beside = f"{part.reference.share:.1%} in {part.reference.name}"
    return f"{text}, {beside}; tolerated are {params.max_wrong_share:.1%} more"
