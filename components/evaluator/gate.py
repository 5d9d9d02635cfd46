"""The gate: every rule with what it found, and the verdict in one sentence.

A rule demands evidence, not luck: floors and margins are held against one-sided bounds, and a
slice is called worse only with Holm's correction for having looked at many. Whatever is missing or
cannot be computed is a failed rule, never a passed one, and a threshold that every model meets
counts as switched off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION, Evidence
from bnpipe.components.evaluator.finding import NO_CHAMPION, NOT_CHECKED, REFERENCE_NAMES, points
from bnpipe.components.evaluator.params import Params, RuleName
from bnpipe.components.evaluator.rules import PROVE_NO_QUALITY, RULES

PASSED, FAILED, WARNED, OFF = "passed", "failed", "warned", "off"
USABLE_MODELS = "usable_models"
COUNTS_AS_OFF = "counts as switched off"


@dataclass(frozen=True)
class Rule:
    """One rule's outcome.

    Attributes:
        name: as in config.
        outcome: `passed`, `failed` (blocks), `warned` (failed, does not block), `off` (by config,
            or because every model would pass), `not checked` or `no champion yet`.
        passed: whether it holds; None where it was not checked.
        value: what was measured, None where there is no such number.
        bound: what it was held against.
        sentence: the finding in words.
    """

    name: str
    outcome: str
    passed: bool | None
    value: float | None
    bound: float | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The rule as plain values; a number that is not finite becomes null."""
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in asdict(self).items()
        }


@dataclass(frozen=True)
class Decision:
    """The verdict and every rule behind it."""

    passed: bool
    sentence: str
    rules: tuple[Rule, ...]


def decide(evidence: Evidence, params: Params) -> Decision:
    """Holds the evidence against every rule. Bad evidence is a verdict, not an exception."""
    rules = [_usable_models(evidence), *(_apply(n, evidence, params) for n in get_args(RuleName))]
    if evidence.overall and not any(_judges_quality(rule, params) for rule in rules):
        rules.insert(1, _no_thresholds(rules))
    failed = [rule for rule in rules if rule.outcome == FAILED]
    if not failed:
        return Decision(True, f"blessed: {_summary(evidence, params)}", tuple(rules))
    sentence = f"not blessed: {failed[0].sentence}"
    if len(failed) > 1:
        sentence += f" (also failed: {', '.join(rule.name for rule in failed[1:])})"
    return Decision(False, sentence, tuple(rules))


def _judges_quality(rule: Rule, params: Params) -> bool:
    """Whether the rule was checked, could block, and says that the candidate is any good."""
    if rule.name == USABLE_MODELS or rule.name in PROVE_NO_QUALITY or rule.name in params.warn:
        return False
    return rule.outcome in (PASSED, FAILED)


def _no_thresholds(rules: Sequence[Rule]) -> Rule:
    """The rule that fails when all others together let every model pass."""
    hollow = [rule for rule in rules if rule.sentence.startswith(COUNTS_AS_OFF)]
    told = f" ({hollow[0].name} {hollow[0].sentence})" if hollow else ""
    sentence = (
        f"no rule about quality is switched on that could block{told}, so nothing was decided"
    )
    return Rule("thresholds", FAILED, False, None, None, sentence)


def _usable_models(evidence: Evidence) -> Rule:
    """Whether candidate and baseline gave answers that can be evaluated."""
    problems = {name: why for name, why in evidence.problems.items() if name != CHAMPION}
    if not problems:
        sentence = "candidate and baseline answered every image with probabilities"
        return Rule(USABLE_MODELS, PASSED, True, 0.0, 0.0, sentence)
    told = "; ".join(f"the {name} cannot be used: {why}" for name, why in problems.items())
    return Rule(USABLE_MODELS, FAILED, False, float(len(problems)), 0.0, told)


def _apply(name: RuleName, evidence: Evidence, params: Params) -> Rule:
    if name in params.off:
        return Rule(name, OFF, None, None, None, "switched off in config")
    if evidence.overall is None:
        sentence = "the candidate has no usable answers"
        return Rule(name, NOT_CHECKED, None, None, None, sentence)
    found = RULES[name](evidence, evidence.overall, params)
    if found.passed and found.vacuous:
        sentence = f"{COUNTS_AS_OFF}: {found.vacuous}"
        return Rule(name, OFF, None, found.value, found.bound, sentence)
    if found.passed is None:
        outcome = found.outcome
    elif found.passed:
        outcome = PASSED
    else:
        outcome = WARNED if name in params.warn else FAILED
    return Rule(name, outcome, found.passed, found.value, found.bound, found.sentence)


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
        parts.append(NO_CHAMPION)
    elif CHAMPION in evidence.problems:
        why = evidence.problems[CHAMPION]
        parts.append(f"not compared with the champion ({evidence.champion}): {why}")
    return ", ".join(parts)
