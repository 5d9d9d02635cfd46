"""The rules of the gate about the evidence itself: any model can pass them, however bad."""

from __future__ import annotations

import math

from bnpipe.components.evaluator.evidence import CHAMPION, Evidence, SliceEvidence
from bnpipe.components.evaluator.finding import NO_CHAMPION, NOT_CHECKED, Finding, called
from bnpipe.components.evaluator.params import Params


def usable_champion(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """The champion, if there is one, gave answers that can be evaluated."""
    if not evidence.champion:
        return Finding(None, None, None, "nothing is served yet", NO_CHAMPION)
    name = called(CHAMPION, evidence)
    why = evidence.problems.get(CHAMPION)
    if why is None:
        return Finding(True, 0.0, 0.0, f"{name} answered every image with probabilities")
    off = ", ".join((*params.off, "usable_champion"))
    sentence = (
        f"{name} cannot be used: {why}; to judge without it: "
        f"bnpipe run --set 'evaluator.off=[{off}]'"
    )
    return Finding(False, 1.0, 0.0, sentence)


def no_empty_slice(evidence: Evidence, overall: SliceEvidence, params: Params) -> Finding:
    """Every class, and every other slice, has images to judge by."""
    empty = [part.name for part in evidence.slices if not part.images]
    if empty or not overall.images:
        named = ", ".join(empty[:5]) or overall.name
        sentence = f"no image to judge by in {max(len(empty), 1)} slices ({named})"
        return Finding(False, float(len(empty)), 0.0, sentence)
    smallest = min((part.images for part in evidence.slices), default=overall.images)
    return Finding(True, 0.0, 0.0, f"every slice has images, the smallest {smallest}")


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
        vacuous = f"probabilities differ by 1 at most, {tolerance:g} is tolerated"
        return Finding(
            True, difference, tolerance, sentence, vacuous=vacuous if tolerance >= 1 else ""
        )
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
        return Finding(None, None, None, "TFMA had no threshold to validate", NOT_CHECKED)
    if failures:
        sentence = f"TFMA's validation fails: {failures[0]}"
        return Finding(False, float(len(failures)), 0.0, sentence)
    return Finding(True, 0.0, 0.0, "TFMA's own validation of the same thresholds passes")
