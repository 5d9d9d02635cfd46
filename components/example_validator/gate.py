"""The gate: every check with what it found, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from bnpipe.components.example_validator import drift_checks, record_checks, split_checks
from bnpipe.components.example_validator.findings import LEVELS, Evidence, Finding
from bnpipe.components.example_validator.params import Action, CheckName

CHECKS: Mapping[CheckName, Callable[[Evidence], Iterator[Finding]]] = {
    "presence": record_checks.presence,
    "types": record_checks.types,
    "shape": record_checks.shape,
    "finite": record_checks.finite,
    "labels": record_checks.labels,
    "classes": split_checks.classes,
    "count": split_checks.count,
    "range": record_checks.value_range,
    "constant_images": split_checks.constant_images,
    "duplicates": split_checks.duplicates,
    "label_conflicts": split_checks.label_conflicts,
    "leak": split_checks.leak,
    "label_drift": drift_checks.label_drift,
    "label_divergence": drift_checks.label_divergence,
    "image_drift": drift_checks.image_drift,
    "image_outliers": drift_checks.image_outliers,
}
DRIFT_CHECKS: tuple[CheckName, ...] = (
    "label_drift",
    "label_divergence",
    "image_drift",
    "image_outliers",
)
OFF, NOT_CHECKED = "off", "not checked"


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        name: as in config.
        level: `ok`, `warn`, `block`, `off` or `not checked`.
        action: what config lets the check do; one that may only warn is never above `warn`.
        value: what was measured; of several findings, of the worst.
        bound: what it was held against.
        sentence: the worst finding in words.
    """

    name: str
    level: str
    action: Action
    value: float | None
    bound: float | None
    sentence: str


@dataclass(frozen=True)
class Decision:
    """The verdict, every check behind it, and every finding.

    Attributes:
        passed: whether the pipeline may go on.
        sentence: the verdict in words.
        checks: every check.
        findings: what the checks found; of harmless findings at least the worst.
    """

    passed: bool
    sentence: str
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """As `verdict.json` holds it."""
        checks = [asdict(check) for check in self.checks]
        return {"passed": self.passed, "sentence": self.sentence, "checks": checks}


def decide(evidence: Evidence) -> Decision:
    """Makes every check that is not switched off."""
    checks: list[Check] = []
    findings: list[Finding] = []
    for name in get_args(CheckName):
        action: Action = getattr(evidence.params, name)
        if action == OFF:
            checks.append(Check(name, OFF, action, None, None, "switched off in config"))
            continue
        found = [_capped(finding, action) for finding in CHECKS[name](evidence)]
        findings.extend(found)
        checks.append(_check(name, action, found))
    blocking = [check for check in checks if check.level == "block"]
    warning = [check.name for check in checks if check.level == "warn"]
    if blocking:
        sentence = f"data blocked: {blocking[0].sentence}"
        if len(blocking) > 1:
            sentence += f" (also: {', '.join(check.name for check in blocking[1:])})"
    else:
        sentence = _passed(evidence, checks)
        if warning:
            sentence += f", warned of {', '.join(warning)}"
    return Decision(not blocking, sentence, tuple(checks), tuple(findings))


def _capped(finding: Finding, action: Action) -> Finding:
    """A finding of a check that may only warn does not block."""
    return (
        replace(finding, level="warn") if (finding.level, action) == ("block", "warn") else finding
    )


def _check(name: str, action: Action, found: list[Finding]) -> Check:
    """The worst of a check's findings."""
    if not found:
        return Check(name, NOT_CHECKED, action, None, None, "nothing to check")
    worst = max(found, key=lambda f: LEVELS.index(f.level))
    return Check(name, worst.level, action, worst.value, worst.bound, worst.sentence)


def _passed(evidence: Evidence, checks: list[Check]) -> str:
    images = sum(summary.images for summary in evidence.splits.values())
    made = sum(check.level not in (OFF, NOT_CHECKED) for check in checks)
    return f"data passed: {images:,} images of {evidence.info.name}, {made} checks"
