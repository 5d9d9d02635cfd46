"""One run's evaluation, as `show`, `diff` and the report read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnpipe.components.base import Ruling

Json = Mapping[str, Any]
Parts = Mapping[str, Json]
"""Slices of `metrics.json` by name."""

MODELS = ("candidate", "baseline", "champion")

METRICS = {
    "accuracy": "accuracy",
    "top_2_accuracy": "top-2 accuracy",
    "loss": "cross-entropy",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "calibration_error": "calibration error",
    "brier_score": "Brier score",
}
"""Keys of `metrics.json` by model, in the order they are shown, and what they are called."""


@dataclass(frozen=True)
class Measured:
    """A value and its interval, if it has one."""

    value: float | None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.interval is None:
            return number(self.value)
        return f"{number(self.value)} [{number(self.interval[0])}, {number(self.interval[1])}]"


@dataclass(frozen=True)
class RunEvaluation:
    """The evaluator's rulings and the gate's verdict.

    Attributes:
        metrics: `metrics.json` of the Evaluation.
        blessing: `blessing.json` of the Blessing.
    """

    metrics: Mapping[str, Any]
    blessing: Mapping[str, Any]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> RunEvaluation | None:
        """From a run's `report.json`; None when no evaluator took part.

        Raises:
            DataError: a rule's ruling is in words that this version does not know.
        """
        blessing = report.get("blessing") or {}
        if not blessing and not report.get("evaluation"):
            return None
        if "rules" in blessing:
            rules = [Ruling.from_json(rule).to_json() for rule in blessing["rules"]]
            blessing = {**blessing, "rules": rules}
        return cls(report.get("evaluation") or {}, blessing)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that were evaluated, the candidate first."""
        return tuple(name for name in MODELS if name in self.metrics.get("models", {}))

    @property
    def differences(self) -> Mapping[str, Measured]:
        """Accuracy of the candidate minus that of each reference."""
        return {
            name: measured(comparison, "difference", "interval")
            for name, comparison in self.metrics.get("against", {}).items()
        }

    def table(self) -> list[tuple[str, ...]]:
        """One row per metric: its name, and the value of every model as text."""
        models = self.metrics.get("models", {})
        return [
            (label, *(str(measured(models[name], key)) for name in self.models))
            for key, label in METRICS.items()
        ]

    def rule_table(self) -> list[tuple[str, str, str, str, str]]:
        """One row per rule, see `ruling_row`."""
        return [ruling_row(rule) for rule in self.blessing.get("rules", ())]


def in_order(parts: Parts) -> dict[str, Json]:
    """Slices by value, numbers as numbers."""

    def order(name: str) -> tuple[bool, int, str]:
        value = name.partition(":")[2]
        return not value.isdecimal(), int(value) if value.isdecimal() else 0, value

    return {name: parts[name] for name in sorted(parts, key=order)}


def ruling_row(stored: Mapping[str, Any]) -> tuple[str, str, str, str, str]:
    """Outcome, name, value, bound and sentence of what a rule or check of a gate said.

    Raises:
        DataError: it is in words that this version does not know.
    """
    ruling = Ruling.from_json(stored)
    value, bound = str(Measured(ruling.value)), str(Measured(ruling.bound))
    return ruling.outcome, ruling.name, value, bound, ruling.sentence


def measured(scores: Mapping[str, Any], key: str, interval: str | None = None) -> Measured:
    """A metric and its interval (`<key>_interval` unless named) from `metrics.json`."""
    bounds = scores.get(interval or f"{key}_interval")
    return Measured(scores.get(key), (bounds[0], bounds[1]) if bounds else None)


def number(value: float | None) -> str:
    """A number in four decimals; whole ones without, small ones in scientific notation."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == round(value):
        return str(round(value))
    return f"{value:.2g}" if abs(value) < 1e-3 else f"{value:.4f}"


def points(value: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{100 * value:+.2f}"
