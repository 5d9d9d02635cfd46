"""The rules of the gate, one function per rule.

Each takes the evidence, the evidence on the whole split and the thresholds, and says what it found.
All floors must hold at once, so each may use the whole error level: a model that is below any one
of them passes with at most that probability (an intersection-union test).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from components.evaluator import statistics
from components.evaluator.evidence import BASELINE, CHAMPION, Evidence, Pair, SliceEvidence
from components.evaluator.params import Params, RuleName

NO_CHAMPION = "no champion yet"
REFERENCE_NAMES = {
    BASELINE: "the network without batch normalisation",
    CHAMPION: "the champion",
}


@dataclass(frozen=True)
class Finding:
    """What a rule found, before config says whether it blocks.

    Attributes:
        passed: None when there was nothing to check; `outcome` then says why in a few words.
        value: what was measured.
        bound: what it was held against.
        sentence: the finding in words.
        outcome: see `passed`.
    """

    passed: bool | None
    value: float | None
    bound: float | None
    sentence: str
    outcome: str = ""


CheckRule = Callable[[Evidence, SliceEvidence, Params], Finding]


def points(share: float, *, signed: bool = False) -> str:
    """A difference of accuracies in percentage points: `+0.29 points`."""
    return f"{100 * share:{'+' if signed else ''}.2f} points"


def no_empty_slice(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """Every class, and every other slice, has images to judge by."""
    empty = [part.name for part in evidence.slices if not part.images]
    if empty or not overall.images:
        named = ", ".join(empty[:5]) or overall.name
        sentence = f"no image to judge by in {max(len(empty), 1)} slices ({named})"
        return Finding(False, float(len(empty)), 0.0, sentence)
    smallest = min((part.images for part in evidence.slices), default=overall.images)
    return Finding(True, 0.0, 0.0, f"every slice has images, the smallest {smallest}")


def accuracy_floor(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """The lower bound of the accuracy reaches `min_accuracy`."""
    bound = overall.lower_bound(params.level)
    floor = params.min_accuracy
    passed = bound >= floor
    below = overall.accuracy < floor
    if passed:
        sentence = f"accuracy {overall.accuracy:.4f} reaches the floor {floor:g}"
    elif below:
        sentence = f"accuracy {overall.accuracy:.4f} is below the floor {floor:g}"
    else:
        sentence = (
            f"accuracy {overall.accuracy:.4f} is not shown to reach the floor {floor:g} "
            f"by {overall.images} images"
        )
    return Finding(passed, bound, floor, f"{sentence} (lower bound {bound:.4f})")


def _no_slices(wanted: str, missing: str, rule: RuleName, bound: float) -> Finding:
    """A rule about slices without slices: it was asked for, so it fails and says what to do."""
    sentence = (
        f"no slices by {wanted} to judge: add {missing} to evaluator.slices or switch {rule} off"
    )
    return Finding(False, None, bound, sentence)


def _lowest(parts: list[SliceEvidence], floor: float, level: float) -> Finding:
    """Holds the slice with the lowest bound against a floor."""
    bounds = [part.lower_bound(level) for part in parts]
    worst = int(np.argmin(bounds))
    part, bound = parts[worst], bounds[worst]
    passed = bound >= floor
    relation = "reaches" if passed else "is below" if part.accuracy < floor else "may be below"
    sentence = (
        f"{part.name} is the weakest of {len(parts)}: accuracy {part.accuracy:.4f} on "
        f"{part.images} images {relation} the floor {floor:g} (lower bound {bound:.4f})"
    )
    return Finding(passed, bound, floor, sentence)


def worst_class(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """The lower bound on every class reaches `min_class_accuracy`."""
    classes = [part for part in evidence.slices if part.columns == ("label",)]
    if not classes:
        return _no_slices("label", "label", "worst_class", params.min_class_accuracy)
    return _lowest(classes, params.min_class_accuracy, params.level)


def slice_floor(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """The lower bound on every slice by one other column reaches `min_slice_accuracy`."""
    parts = [p for p in evidence.slices if len(p.columns) == 1 and p.columns != ("label",)]
    if not parts:
        return _no_slices(
            "a column other than label", "ink_quartile", "slice_floor", params.min_slice_accuracy
        )
    return _lowest(parts, params.min_slice_accuracy, params.level)


def _absent(reference: str, evidence: Evidence) -> Finding:
    """There is no reference to compare with: a fault, except for a champion that never was."""
    if reference == CHAMPION and reference not in evidence.problems:
        sentence = "nothing is served yet, so there is no champion to compare with"
        return Finding(None, None, None, sentence, NO_CHAMPION)
    why = evidence.problems.get(reference, "it is missing")
    sentence = f"no comparison with {REFERENCE_NAMES[reference]}: {why}"
    return Finding(False, None, None, sentence)


def _called(reference: str, evidence: Evidence) -> str:
    if reference == CHAMPION and evidence.champion:
        return f"the champion ({evidence.champion})"
    return REFERENCE_NAMES[reference]


def non_inferior(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Finding:
    """The lower bound of the paired difference of accuracy stays above minus `margin`."""
    pair = overall.against.get(reference)
    if pair is None:
        return _absent(reference, evidence)
    resampled = statistics.paired_bootstrap(
        pair.only_candidate,
        pair.only_reference,
        overall.images,
        params.resamples,
        np.random.default_rng(params.seed),
    )
    # The bootstrap alone shrinks to a point when hardly any image sets the two apart.
    score = statistics.score_lower_bound(
        pair.only_candidate, pair.only_reference, overall.images, params.level
    )
    bound = min(float(np.quantile(resampled, params.level)), score)
    difference = points(overall.difference(reference), signed=True)
    passed = bound >= -params.margin
    shown = "at most" if passed else "not shown to be at most"
    sentence = (
        f"{difference} against {_called(reference, evidence)}, {shown} {points(params.margin)} "
        f"worse (lower bound {points(bound, signed=True)})"
    )
    return Finding(passed, bound, -params.margin, sentence)


def references_judged(part: SliceEvidence, params: Params) -> int:
    """How many references could block by a test for a loss: they share the error level.

    Else an equal model would be blocked at up to twice the level once there is a champion.
    """
    unblocking = (*params.off, *params.warn)
    judged = [
        reference
        for reference in part.against
        if any(f"{reference}_{kind}" not in unblocking for kind in ("not_worse", "slices"))
    ]
    return max(1, len(judged))


def detectable_loss(part: SliceEvidence, reference: str, params: Params) -> float:
    """The smallest true loss that `not_worse` finds with `power`, at the observed discordance."""
    pair = part.against[reference]
    discordance = (pair.only_candidate + pair.only_reference) / max(part.images, 1)
    level = params.overall_level / references_judged(part, params)
    return float(statistics.smallest_detectable(discordance, part.images, level, params.power))


def is_better(pair: Pair, params: Params) -> bool:
    """Whether McNemar's test calls the candidate better, at the level of the reported interval."""
    p = statistics.mcnemar_worse(pair.only_reference, pair.only_candidate)
    return bool(p <= (1 - params.confidence) / 2)


def not_worse(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Finding:
    """The exact one-sided McNemar test does not call the candidate worse at its level.

    That is `overall_level`, shared by the references.
    """
    pair = overall.against.get(reference)
    if pair is None:
        return _absent(reference, evidence)
    p = float(statistics.mcnemar_worse(pair.only_candidate, pair.only_reference))
    level = params.overall_level / references_judged(overall, params)
    passed = p > level
    sentence = (
        f"{points(overall.difference(reference), signed=True)} is "
        f"{'not ' if passed else ''}significantly worse than {_called(reference, evidence)}: "
        f"{pair.only_reference} images only the other gets right, {pair.only_candidate} only the "
        f"candidate (McNemar p {p:.3g}; {overall.images} images show a loss of "
        f"{points(detectable_loss(overall, reference, params))} with {params.power:.0%} power); "
        f"it is {'' if is_better(pair, params) else 'not '}shown to be better"
    )
    return Finding(passed, p, level, sentence)


def slices_not_worse(
    reference: str, evidence: Evidence, overall: SliceEvidence, params: Params
) -> Finding:
    """No slice by one column is worse by more than `slice_margin` and significantly so.

    Significant at `slices_level`, shared by the references, with Holm's correction for having
    looked at all of them.
    Significance alone would ask too much: of 30 pairs of MNIST networks that differ in nothing but
    their seed, 16 have a class that is significantly worse, by up to 2.9 points.
    """
    if reference not in overall.against:
        return _absent(reference, evidence)
    level = params.slices_level / references_judged(overall, params)
    parts = [p for p in evidence.slices if len(p.columns) == 1 and p.images]
    if not parts:
        rule: RuleName = "baseline_slices" if reference == BASELINE else "champion_slices"
        return _no_slices("a single column", "label", rule, level)
    pairs = [part.against[reference] for part in parts]
    adjusted = statistics.holm(
        statistics.mcnemar_worse(
            [pair.only_candidate for pair in pairs], [pair.only_reference for pair in pairs]
        )
    )
    worse = [
        part.name
        for part, p in zip(parts, adjusted, strict=True)
        if p <= level and part.difference(reference) < -params.slice_margin
    ]
    lowest = int(np.argmin(adjusted))
    part = parts[lowest]
    named = f"{', '.join(worse)} is" if worse else "no slice is"
    sentence = (
        f"{named} significantly and by more than {points(params.slice_margin)} worse than "
        f"{_called(reference, evidence)}; lowest p of {len(parts)}: {part.name} with "
        f"{points(part.difference(reference), signed=True)} (Holm p {adjusted[lowest]:.3g})"
    )
    return Finding(not worse, float(adjusted[lowest]), level, sentence)


def calibration(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """The upper bound of the expected calibration error stays below its ceiling."""
    error, bound, ceiling = (
        evidence.calibration_error,
        evidence.calibration_bound,
        params.max_calibration_error,
    )
    passed = bound <= ceiling
    relation = "below" if passed else "not below"
    sentence = (
        f"expected calibration error {error:.4f}, {relation} the ceiling {ceiling:g} "
        f"(upper bound {bound:.4f})"
    )
    return Finding(passed, bound, ceiling, sentence)


def batch_invariance(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """A row asked for alone gets the answer that it gets inside a batch."""
    difference, tolerance = evidence.batch_difference, params.batch_tolerance
    if math.isnan(difference):
        sentence = (
            "a row alone could not be held against the same row in a batch: "
            "that takes two images or more in the evaluated split"
        )
        return Finding(False, difference, tolerance, sentence)
    if difference <= tolerance:
        sentence = f"a row alone and inside a batch get the same answer (within {difference:.1e})"
        return Finding(True, difference, tolerance, sentence)
    sentence = (
        f"an answer depends on the other rows of its batch: a row alone differs by "
        f"{difference:.2g} (tolerance {tolerance:g}), as when batch normalisation uses batch "
        f"statistics at inference"
    )
    return Finding(False, difference, tolerance, sentence)


def tfma_validation(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """TFMA's own validation, on point values, agrees."""
    failures = evidence.tfma_failures
    if failures is None:
        sentence = "TFMA had no threshold to validate"
        return Finding(None, None, None, sentence, "not checked")
    if failures:
        sentence = f"TFMA's validation fails: {failures[0]}"
        return Finding(False, float(len(failures)), 0.0, sentence)
    return Finding(True, 0.0, 0.0, "TFMA's own validation of the same thresholds passes")


RULES: Mapping[RuleName, CheckRule] = {
    "no_empty_slice": no_empty_slice,
    "accuracy_floor": accuracy_floor,
    "worst_class": worst_class,
    "slice_floor": slice_floor,
    "baseline_non_inferior": partial(non_inferior, BASELINE),
    "baseline_not_worse": partial(not_worse, BASELINE),
    "baseline_slices": partial(slices_not_worse, BASELINE),
    "champion_non_inferior": partial(non_inferior, CHAMPION),
    "champion_not_worse": partial(not_worse, CHAMPION),
    "champion_slices": partial(slices_not_worse, CHAMPION),
    "calibration": calibration,
    "batch_invariance": batch_invariance,
    "tfma_validation": tfma_validation,
}
"""Every rule by its name in config, in the order in which they are reported."""
