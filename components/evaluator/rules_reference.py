"""The rules of the gate that hold the candidate against a reference on the same images.

The references share the error level of the tests for a loss: an equal model is then called worse
with probability `level` at most, whether there is a champion or not. `non_inferior` asks for the
opposite proof: where the images are too few to rule a loss of `margin` out, it blocks any model.
"""

from __future__ import annotations

import math

import numpy as np

from bnpipe.components.evaluator import paired, statistics
from bnpipe.components.evaluator.assessment import (
    REFERENCE_NAMES,
    Assessment,
    called,
    no_slices,
    part_name,
    points,
)
from bnpipe.components.evaluator.evidence import CHAMPION, Evidence, Pair, SliceEvidence
from bnpipe.components.evaluator.params import Params


def non_inferior(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Assessment:
    """The lower bound of the paired difference of accuracy stays above minus `margin`."""
    if reference not in overall.against:
        return _absent(reference, evidence)
    bound = lower_bound(overall, reference, params)
    difference = points(overall.difference(reference), signed=True)
    passed = bound >= -params.margin
    shown = "at most" if passed else "not shown to be at most"
    sentence = (
        f"{difference} against {called(reference, evidence)}, {shown} {points(params.margin)} "
        f"worse (lower bound {points(bound, signed=True)})"
    )
    vacuous = _hollow_loss(params.margin, reference, evidence, overall)
    return Assessment(passed, bound, -params.margin, sentence, vacuous=vacuous)


def not_worse(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Assessment:
    """The exact one-sided McNemar test does not call the candidate worse at its level.

    That is `overall_level`, shared by the references.
    """
    pair = overall.against.get(reference)
    if pair is None:
        return _absent(reference, evidence)
    p = float(statistics.mcnemar_worse(*pair))
    level = params.overall_level / references_judged(overall, params)
    passed = p > level
    detectable = detectable_loss(overall, reference, params)
    shown = f"of {points(detectable)} with {params.power:.0%} power"
    sentence = (
        f"{points(overall.difference(reference), signed=True)} is "
        f"{'not ' if passed else ''}significantly worse than {called(reference, evidence)}: "
        f"{pair.only_reference} images only the other gets right, {pair.only_candidate} only the "
        f"candidate (McNemar p {p:.3g}; {overall.images} images show "
        f"{'no loss at all' if math.isnan(detectable) else f'a loss {shown}'}); "
        f"it is {'' if is_better(pair, params) else 'not '}shown to be better"
    )
    smallest = 1.0 if math.isnan(detectable) else detectable
    vacuous = _hollow_loss(smallest, reference, evidence, overall)
    return Assessment(passed, p, level, sentence, vacuous=vacuous)


def slices_not_worse(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Assessment:
    """No slice is shown to be worse by more than `slice_margin`.

    Every slice is tested for a true loss above the margin. Holm's correction for having looked at
    all of them keeps the error at `slices_level`, shared by the references.
    """
    if reference not in overall.against:
        return _absent(reference, evidence)
    level = params.slices_level / references_judged(overall, params)
    filled = [p for p in evidence.slices if p.images]
    parts = [p for p in filled if params.judge_crossed_slices or len(p.columns) == 1]
    if not parts:
        return no_slices("a single column", "label", f"{reference}_slices", level)
    margin = params.slice_margin
    p_values = [
        paired.worse_than_margin(*part.against[reference], part.images, margin) for part in parts
    ]
    adjusted = statistics.holm(p_values)
    worse = [part_name(part) for part, p in zip(parts, adjusted, strict=True) if p <= level]
    losses = [part.difference(reference) for part in parts]
    nearest = int(np.lexsort([losses, p_values])[0])
    part = parts[nearest]
    named = f"{', '.join(worse)} is" if worse else f"none of {len(parts)} slices is"
    left_out = len(filled) - len(parts)
    sentence = (
        f"{named} shown to be worse than {called(reference, evidence)} by more than "
        f"{points(margin)}; strongest sign: {part_name(part)} with "
        f"{points(losses[nearest], signed=True)} on {part.images} images "
        f"(Holm p {adjusted[nearest]:.3g} of {len(parts)})"
        f"{f'; {left_out} crossed slices are reported, not judged' if left_out else ''}"
    )
    vacuous = _hollow_loss(margin, reference, evidence, overall)
    return Assessment(not worse, float(adjusted[nearest]), level, sentence, vacuous=vacuous)


def lower_bound(part: SliceEvidence, reference: str, params: Params) -> float:
    """The one-sided lower bound of the paired difference: bootstrap or score, which is lower.

    The bootstrap alone shrinks to a point when hardly any image sets the two apart.
    """
    b, c = part.against[reference]
    rng = np.random.default_rng(params.seed)
    resampled = statistics.paired_bootstrap(b, c, part.images, params.resamples, rng)
    score = paired.score_lower_bound(b, c, part.images, params.level)
    return min(float(np.quantile(resampled, params.level)), score)


def references_judged(part: SliceEvidence, params: Params) -> int:
    """The number of references that could block by a test for a loss: they share the level.

    Else an equal model would be blocked at up to twice the level once there is a champion.
    """
    levels = vars(params.rules)
    judged = [
        reference
        for reference in part.against
        if "block" in (levels[f"{reference}_not_worse"], levels[f"{reference}_slices"])
    ]
    return max(1, len(judged))


def detectable_loss(part: SliceEvidence, reference: str, params: Params) -> float:
    """The smallest true loss that `not_worse` finds with `power`, at the observed discordance."""
    discordance = sum(part.against[reference]) / max(part.images, 1)
    level = params.overall_level / references_judged(part, params)
    return paired.smallest_detectable(discordance, part.images, level, params.power)


def is_better(pair: Pair, params: Params) -> bool:
    """True if McNemar's test calls the candidate better, at the level of the interval reported."""
    p = statistics.mcnemar_worse(pair.only_reference, pair.only_candidate)
    return bool(p <= (1 - params.confidence) / 2)


def _absent(reference: str, evidence: Evidence) -> Assessment:
    """There is no reference to compare with.

    For the baseline that is a fault. A champion may never have been; whether one that cannot be
    used blocks is for the rule `usable_champion` to say.
    """
    if reference == CHAMPION and not evidence.champion:
        sentence = "nothing is served yet, so there is no champion to compare with"
        return Assessment(None, None, None, sentence)
    passed = None if reference == CHAMPION else False
    why = evidence.problems.get(reference, "it is missing")
    sentence = f"no comparison with {called(reference, evidence)}: {why}"
    return Assessment(passed, None, None, sentence)


def _hollow_loss(loss: float, reference: str, evidence: Evidence, overall: SliceEvidence) -> str:
    """Says that a model that guesses would pass a rule about a loss; empty when it would not."""
    left = overall.accuracy - overall.difference(reference) - loss
    if left > evidence.guessing:
        return ""
    return (
        f"a model that ignores the images reaches {evidence.guessing:.4f}, and a loss of "
        f"{points(loss)} against {REFERENCE_NAMES[reference]} would pass"
    )
