"""The gate: every check with its ruling, and the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bnpipe.components.base import GRADES, Decision, Level, Ruling, caveat, objection
from bnpipe.components.example_validator import drift_checks, record_checks, split_checks
from bnpipe.components.example_validator.profile import Observation, Profile

CHECKS: Mapping[str, Callable[[Profile], Iterator[Observation]]] = {
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
    "class_statistics": drift_checks.class_statistics,
}
DRIFT_CHECKS = tuple(CHECKS)[-drift_checks.CHECKS :]


@dataclass(frozen=True)
class DataDecision(Decision):
    """The verdict on the data.

    Attributes:
        observations: those of all checks; of harmless observations at least the worst.
    """

    observations: tuple[Observation, ...]


def decide(profile: Profile) -> DataDecision:
    """Makes every check that is not switched off."""
    rulings: list[Ruling] = []
    observations: list[Observation] = []
    for name, check in CHECKS.items():
        level: Level = getattr(profile.params.checks, name)
        if level == "off":
            rulings.append(Ruling(name, level, "off", "switched off in config"))
            continue
        # A check that may only warn does not block.
        observed = [
            replace(observation, outcome=level) if observation.outcome == "block" else observation
            for observation in check(profile)
        ]
        observations.extend(observed)
        rulings.append(_ruling(name, level, observed))
    why_not = objection(rulings)
    sentence = f"data blocked: {why_not}" if why_not else _passed(profile, rulings)
    return DataDecision(not why_not, sentence, tuple(rulings), tuple(observations))


def worst_drift(rulings: Iterable[Ruling]) -> float | None:
    """The largest distance relative to the bound above which it blocks; None if there is none."""
    pairs = ((r.value, r.bound) for r in rulings if r.name in DRIFT_CHECKS)
    return max(
        (value / bound for value, bound in pairs if value is not None and bound), default=None
    )


def _ruling(name: str, level: Level, observed: Sequence[Observation]) -> Ruling:
    """The worst of a check's observations."""
    if not observed:
        return Ruling(name, level, "not checked", "nothing to check")
    worst = max(observed, key=lambda o: GRADES.index(o.outcome))
    return Ruling(name, level, worst.outcome, worst.sentence, worst.value, worst.bound)


def _passed(profile: Profile, rulings: Sequence[Ruling]) -> str:
    images = sum(summary.images for summary in profile.splits.values())
    made = sum(ruling.outcome not in ("off", "not checked") for ruling in rulings)
    name = profile.info.name
    return f"data passed: {images:,} images of {name}, {made} checks{caveat(rulings)}"
