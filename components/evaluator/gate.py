"""The gate: every rule with what it found, and the verdict in one sentence.

A rule demands evidence, not luck: floors and margins are held against one-sided bounds, and a
slice is called worse only with Holm's correction for having looked at many. Whatever is missing or
cannot be computed is a failed rule, never a passed one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

from components.evaluator.evidence import BASELINE, CHAMPION, Evidence
from components.evaluator.params import Params, RuleName
from components.evaluator.rules import REFERENCE_NAMES, RULES, points

PASSED, FAILED, WARNED, OFF, NOT_CHECKED = "passed", "failed", "warned", "off", "not checked"


SOUNDNESS_RULES = frozenset(
    {"usable_models", "no_empty_slice", "batch_invariance", "tfma_validation"}
)
"""Rules that any model can pass, however bad: by themselves they bless nothing."""


@dataclass(frozen=True)
class Rule:
    """One rule's outcome.

    Attributes:
        name: as in config.
        outcome: `passed`, `failed` (blocks), `warned` (failed, does not block), `off`,
            `not checked` or `no champion yet`.
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
        sentence = "no rule about quality is switched on that could block, so nothing was decided"
        rules.insert(1, Rule("thresholds", FAILED, False, None, None, sentence))
    failed = [rule for rule in rules if rule.outcome == FAILED]
    if not failed:
        return Decision(True, f"blessed: {_summary(evidence, params)}", tuple(rules))
    sentence = f"not blessed: {failed[0].sentence}"
    if len(failed) > 1:
        sentence += f" (also failed: {', '.join(rule.name for rule in failed[1:])})"
    return Decision(False, sentence, tuple(rules))


def _judges_quality(rule: Rule, params: Params) -> bool:
    """Whether the rule was checked, could block, and says more than that the evidence is sound."""
    checked = rule.outcome in (PASSED, FAILED)
    return checked and rule.name not in SOUNDNESS_RULES and rule.name not in params.warn


def _usable_models(evidence: Evidence) -> Rule:
    """Whether every model that takes part gave answers that can be evaluated."""
    if not evidence.problems:
        sentence = "every model answered every image with probabilities"
        return Rule("usable_models", PASSED, True, 0.0, 0.0, sentence)
    told = "; ".join(f"the {name} cannot be used: {why}" for name, why in evidence.problems.items())
    return Rule("usable_models", FAILED, False, float(len(evidence.problems)), 0.0, told)


def _apply(name: RuleName, evidence: Evidence, params: Params) -> Rule:
    if name in params.off:
        return Rule(name, OFF, None, None, None, "switched off in config")
    if evidence.overall is None:
        sentence = "the candidate has no usable answers"
        return Rule(name, NOT_CHECKED, None, None, None, sentence)
    found = RULES[name](evidence, evidence.overall, params)
    if found.passed is None:
        outcome = found.outcome
    elif found.passed:
        outcome = PASSED
    else:
        outcome = WARNED if name in params.warn else FAILED
    return Rule(name, outcome, found.passed, found.value, found.bound, found.sentence)


def _summary(evidence: Evidence, params: Params) -> str:
    """Accuracy with its lower bound, and the difference to each reference."""
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
    return ", ".join(parts)
