"""The gate: every rule with its ruling, and the verdict in one sentence.

A rule demands evidence, not luck: floors and margins are held against one-sided bounds, and a
slice is called worse only with Holm's correction for having looked at many. Whatever is missing or
cannot be computed blocks as if the rule were broken, and a threshold that every model meets counts
as switched off.
"""

from __future__ import annotations

from collections.abc import Sequence

from bnpipe.components.base import Decision, Grade, Level, Ruling, caveat, objection
from bnpipe.components.evaluator.assessment import REFERENCE_NAMES, points
from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION, Evidence
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.rules import PROVE_NO_QUALITY, RULES

USABLE_MODELS = "usable_models"
COUNTS_AS_OFF = "counts as switched off"


def decide(evidence: Evidence, params: Params) -> Decision:
    """Holds the evidence against every rule. Bad evidence is a verdict, not an exception."""
    rulings = [_usable_models(evidence), *(_apply(name, evidence, params) for name in RULES)]
    if evidence.overall and not any(_judges_quality(ruling) for ruling in rulings):
        rulings.insert(1, _no_thresholds(rulings))
    why_not = objection(rulings)
    if why_not:
        return Decision(False, f"not blessed: {why_not}", tuple(rulings))
    sentence = f"blessed: {_summary(evidence, params)}{caveat(rulings)}"
    return Decision(True, sentence, tuple(rulings))


def held_against(decision: Decision, without: Decision, suspects: int) -> Decision:
    """The decision, and whether it would be the same without images whose label is in doubt.

    Args:
        decision: on all images.
        without: on those that are not in doubt.
        suspects: the number of the others.
    """
    same = decision.passed == without.passed
    doubted = f"{suspects} image{'s' * (suspects != 1)} whose label is in doubt"
    sentence = f"the verdict is the same without {doubted}"
    if not same:
        sentence = f"the verdict hangs on {doubted}, without it would be: {without.sentence}"
    ruling = Ruling("suspects", "warn", "ok" if same else "warn", sentence, float(suspects))
    said = "" if same else f"; that hangs on {doubted}"
    return Decision(decision.passed, decision.sentence + said, (*decision.rulings, ruling))


def _judges_quality(ruling: Ruling) -> bool:
    """True for a rule that was checked, could block, and proves that the candidate is any good."""
    could_block = ruling.level == "block" and ruling.outcome in ("ok", "block")
    return could_block and ruling.name not in (USABLE_MODELS, *PROVE_NO_QUALITY)


def _no_thresholds(rulings: Sequence[Ruling]) -> Ruling:
    """The rule that blocks when all others together let every model pass."""
    hollow = [ruling for ruling in rulings if ruling.sentence.startswith(COUNTS_AS_OFF)]
    example = f" ({hollow[0].name} {hollow[0].sentence})" if hollow else ""
    sentence = (
        f"no rule about quality is switched on that could block{example}, so nothing was decided"
    )
    return Ruling("thresholds", "block", "block", sentence)


def _usable_models(evidence: Evidence) -> Ruling:
    """Candidate and baseline gave answers that can be evaluated."""
    problems = {name: why for name, why in evidence.problems.items() if name != CHAMPION}
    if not problems:
        sentence = "candidate and baseline answered every image with probabilities"
        return Ruling(USABLE_MODELS, "block", "ok", sentence, 0.0, 0.0)
    sentence = "; ".join(f"the {name} cannot be used: {why}" for name, why in problems.items())
    return Ruling(USABLE_MODELS, "block", "block", sentence, float(len(problems)), 0.0)


def _apply(name: str, evidence: Evidence, params: Params) -> Ruling:
    level: Level = getattr(params.rules, name)
    if level == "off":
        return Ruling(name, level, "off", "switched off in config")
    if evidence.overall is None:
        return Ruling(name, level, "not checked", "the candidate has no usable answers")
    assessed = RULES[name](evidence, evidence.overall, params)
    outcome: Grade = "ok" if assessed.passed else level
    sentence = assessed.sentence
    if assessed.passed is None:
        outcome = "not checked"
    elif assessed.passed and assessed.vacuous:
        outcome, sentence = "off", f"{COUNTS_AS_OFF}: {assessed.vacuous}"
    return Ruling(name, level, outcome, sentence, assessed.value, assessed.bound)


def _summary(evidence: Evidence, params: Params) -> str:
    """Accuracy with its lower bound, and the difference to each reference or why there is none."""
    overall = evidence.overall
    assert overall is not None, "a candidate without answers cannot pass"
    bound = overall.lower_bound(params.level)
    parts = [
        f"accuracy {overall.accuracy:.4f} ({100 * (1 - params.level):g} % at least {bound:.4f})"
    ]
    for name in (BASELINE, CHAMPION):
        if name in overall.against:
            difference = points(overall.difference(name), signed=True)
            label = evidence.champion if name == CHAMPION else REFERENCE_NAMES[name]
            parts.append(f"{difference} against {label}")
    if not evidence.champion:
        parts.append("no champion yet")
    elif CHAMPION in evidence.problems:
        why = evidence.problems[CHAMPION]
        parts.append(f"not compared with the champion ({evidence.champion}): {why}")
    return ", ".join(parts)
