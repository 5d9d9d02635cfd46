"""The rules of the gate about the evidence itself: any model can pass them, however bad."""

from __future__ import annotations

import math

from bnpipe.components.evaluator.assessment import Assessment, called
from bnpipe.components.evaluator.evidence import CHAMPION, Evidence, SliceEvidence
from bnpipe.components.evaluator.params import Params


def usable_champion(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """The champion, if there is one, gave answers that can be evaluated."""
    if not evidence.champion:
        return Assessment(None, None, None, "nothing is served yet")
    name = called(CHAMPION, evidence)
    why = evidence.problems.get(CHAMPION)
    if why is None:
        return Assessment(True, 0.0, 0.0, f"{name} answered every image with probabilities")
    sentence = (
        f"{name} cannot be used: {why}; to judge without it: "
        "bnpipe run --set evaluator.rules.usable_champion=off"
    )
    return Assessment(False, 1.0, 0.0, sentence)


def no_empty_slice(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """Every class, and every other slice, has images to judge by."""
    empty = [part.name for part in evidence.slices if not part.images]
    if empty or not overall.images:
        named = ", ".join(empty[:5]) or overall.name
        sentence = f"no image to judge by in {max(len(empty), 1)} slices ({named})"
        return Assessment(False, float(len(empty)), 0.0, sentence)
    smallest = min((part.images for part in evidence.slices), default=overall.images)
    return Assessment(True, 0.0, 0.0, f"every slice has images, the smallest {smallest}")


def batch_invariance(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """A row asked for alone gets the answer that it gets inside a batch."""
    difference = evidence.batch_difference
    tolerance = max(params.batch_tolerance, evidence.rounding)
    if math.isnan(difference):
        sentence = (
            "a row alone could not be held against the same row in a batch: "
            "that takes two images or more in the evaluated split"
        )
        return Assessment(False, difference, tolerance, sentence)
    if difference <= tolerance:
        sentence = f"a row alone and inside a batch get the same answer (within {difference:.1e})"
        vacuous = f"probabilities differ by 1 at most, {tolerance:g} is tolerated"
        return Assessment(
            True, difference, tolerance, sentence, vacuous=vacuous if tolerance >= 1 else ""
        )
    sentence = (
        f"an answer depends on the other rows of its batch: a row alone differs by "
        f"{difference:.2g} (tolerance {tolerance:g}), as when batch normalisation uses batch "
        f"statistics at inference"
    )
    return Assessment(False, difference, tolerance, sentence)


def tfma_validation(evidence: Evidence, overall: SliceEvidence, params: Params) -> Assessment:
    """TFMA's own validation, on point values, agrees."""
    failures = evidence.tfma_failures
    if failures is None:
        return Assessment(None, None, None, "TFMA had no threshold to validate")
    if failures:
        sentence = f"TFMA's validation fails: {failures[0]}"
        return Assessment(False, float(len(failures)), 0.0, sentence)
    return Assessment(True, 0.0, 0.0, "TFMA's own validation of the same thresholds passes")
