"""The rules of the gate about the candidate alone: floors of its accuracy, and its calibration.

All floors must hold at once, so each may use the whole error level: a model that is below any one
of them passes with at most that probability (an intersection-union test).
"""

from __future__ import annotations

import numpy as np

from bnpipe.components.evaluator.assessment import Assessment, hollow_floor, no_slices
from bnpipe.components.evaluator.evidence import Evidence, SliceEvidence
from bnpipe.components.evaluator.params import Params


def accuracy_floor(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """The lower bound of the accuracy reaches `min_accuracy`."""
    bound = overall.lower_bound(params.level)
    floor = params.min_accuracy
    passed = bound >= floor
    if passed:
        sentence = f"accuracy {overall.accuracy:.4f} reaches the floor {floor:g}"
    elif overall.accuracy < floor:
        sentence = f"accuracy {overall.accuracy:.4f} is below the floor {floor:g}"
    else:
        sentence = (
            f"accuracy {overall.accuracy:.4f} is not shown to reach the floor {floor:g} "
            f"by {overall.images} images"
        )
    sentence = f"{sentence} (lower bound {bound:.4f})"
    vacuous = hollow_floor(floor, evidence.guessing)
    return Assessment(passed, bound, floor, sentence, vacuous=vacuous)


def worst_class(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """The lower bound on every class reaches `min_class_accuracy`."""
    classes = [part for part in evidence.slices if part.columns == ("label",)]
    floor = params.min_class_accuracy
    if not classes:
        return no_slices("label", "label", "worst_class", floor)
    # Without looking at the images, the accuracies on the K classes add up to 1.
    return _lowest(classes, floor, params.level, hollow_floor(floor, 1 / len(classes)))


def slice_floor(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """The lower bound on every slice by one other column reaches `min_slice_accuracy`."""
    parts = [p for p in evidence.slices if len(p.columns) == 1 and p.columns != ("label",)]
    floor = params.min_slice_accuracy
    if not parts:
        return no_slices("a column other than label", "ink_quartile", "slice_floor", floor)
    return _lowest(parts, floor, params.level, hollow_floor(floor, evidence.guessing))


def _lowest(parts: list[SliceEvidence], floor: float, level: float, vacuous: str) -> Assessment:
    """Holds the slice with the lowest bound against a floor."""
    bounds = [part.lower_bound(level) for part in parts]
    worst = int(np.argmin(bounds))
    part, bound = parts[worst], bounds[worst]
    passed = bound >= floor
    if not part.images:
        sentence = f"{part.name} has no image that could show the floor {floor:g}"
        return Assessment(passed, bound, floor, sentence, vacuous=vacuous)
    relation = "reaches" if passed else "is below" if part.accuracy < floor else "may be below"
    sentence = (
        f"{part.name} is the weakest of {len(parts)}: accuracy {part.accuracy:.4f} on "
        f"{part.images} images {relation} the floor {floor:g} (lower bound {bound:.4f})"
    )
    return Assessment(passed, bound, floor, sentence, vacuous=vacuous)


def calibration(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """The upper bound of the expected calibration error stays below its ceiling."""
    error, bound = evidence.calibration_error, evidence.calibration_bound
    ceiling = params.max_calibration_error
    passed = bound <= ceiling
    relation = "below" if passed else "not below"
    sentence = (
        f"expected calibration error {error:.4f}, {relation} the ceiling {ceiling:g} "
        f"(upper bound {bound:.4f})"
    )
    vacuous = f"the error is never above 1, the ceiling is {ceiling:g}" if ceiling >= 1 else ""
    return Assessment(passed, bound, ceiling, sentence, vacuous=vacuous)
