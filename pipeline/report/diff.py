"""The differences between two runs: config, code, data, metrics, verdict.

Two candidates that answered the same images are compared image by image, so a difference of their
accuracies has an interval of its own, far narrower than the two that each accuracy has.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from bnpipe.pipeline.engine.fingerprint import differences
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report.evaluation import METRICS, Measured, RunEvaluation, measured

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """One value that differs; None where a run has no such thing."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class MetricChange:
    """One metric of one model, in both runs."""

    model: str
    metric: str
    before: Measured
    after: Measured

    @property
    def difference(self) -> float | None:
        """After minus before; None where one of them has no value."""
        if self.before.value is None or self.after.value is None:
            return None
        return self.after.value - self.before.value


@dataclass(frozen=True)
class Paired:
    """The two candidates on the images that both runs evaluated.

    Attributes:
        images: how many images both answered.
        only_before: images that only the first run's candidate gets right.
        only_after: images that only the second run's candidate gets right.
        difference: of the accuracies, after minus before.
        interval: of the difference, as wide as a paired bootstrap and the score bound ask.
        p_value: exact two-sided McNemar test of equal accuracies.
    """

    images: int
    only_before: int
    only_after: int
    difference: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class RunDiff:
    """Everything that differs between two runs.

    Attributes:
        before: the first run's summary.
        after: the second run's summary.
        config: keys of the configuration.
        code: modules by digest, of the steps whose record both runs have.
        data: outputs by digest, `step.field`, and what steps read from outside.
        environment: versions of Python and libraries.
        metrics: of every model that both evaluated, differing or not.
        paired: the candidates image by image; None when no image is in both evaluations.
        gate: outcomes of rules, and the verdict.
        not_compared: steps whose code and environment are recorded for one of the runs only.
    """

    before: Json
    after: Json
    config: tuple[Change, ...]
    code: tuple[Change, ...]
    data: tuple[Change, ...]
    environment: tuple[Change, ...]
    metrics: tuple[MetricChange, ...]
    paired: Paired | None
    gate: tuple[Change, ...]
    not_compared: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        keys = ("id", "status", "dataset", "started")
        return {
            **asdict(self),
            "before": {key: self.before.get(key) for key in keys},
            "after": {key: self.after.get(key) for key in keys},
            "metrics": [{**asdict(m), "difference": m.difference} for m in self.metrics],
        }


def diff_runs(store: Store, before: RunFolder, after: RunFolder) -> RunDiff:
    """Compare two runs of one home.

    Raises:
        StoreError: the record of a run is damaged.
        DataError: a rule's ruling is in words that this version does not know.
    """
    a, b = before.report(), after.report()
    parts, not_compared = _recorded(store, a, b)
    evaluations = RunEvaluation.of(a), RunEvaluation.of(b)
    return RunDiff(
        before=a,
        after=b,
        config=_changes(a.get("config") or {}, b.get("config") or {}),
        code=_changes(*(_modules(p) for p in parts)),
        data=_changes(
            *({**_outputs(r), **_outside(p)} for r, p in zip((a, b), parts, strict=True))
        ),
        environment=_changes(*(_environment(p) for p in parts)),
        metrics=_metrics(*evaluations),
        paired=_paired(store, a, b),
        gate=_changes(*(_outcomes(e) for e in evaluations)),
        not_compared=not_compared,
    )


def _changes(before: Json, after: Json) -> tuple[Change, ...]:
    return tuple(Change(*difference) for difference in differences(before, after))


def _recorded(
    store: Store, before: Json, after: Json
) -> tuple[tuple[dict[str, Json], dict[str, Json]], tuple[str, ...]]:
    """The key parts of the steps in both runs, and the steps recorded in one of them only."""
    a, b = _parts(store, before), _parts(store, after)
    steps = dict.fromkeys(step["name"] for run in (before, after) for step in run["steps"])
    common = [name for name in steps if name in a and name in b]
    kept = {name: a[name] for name in common}, {name: b[name] for name in common}
    return kept, tuple(name for name in steps if (name in a) != (name in b))


def _parts(store: Store, run: Json) -> dict[str, Json]:
    records = {step["name"]: store.record(str(step["key"])) for step in run["steps"]}
    return {name: record.parts for name, record in records.items() if record is not None}


def _modules(parts: Mapping[str, Json]) -> dict[str, str]:
    """Digest by module, over all steps."""
    return {module: d for part in parts.values() for module, d in part.get("code", {}).items()}


def _outputs(run: Json) -> dict[str, str]:
    return {
        f"{step['name']}.{name}": digest
        for step in run["steps"]
        for name, digest in step["outputs"].items()
    }


def _outside(parts: Mapping[str, Json]) -> dict[str, str]:
    return {
        f"{step} reads {name}": digest
        for step, part in parts.items()
        for name, digest in {**part.get("outside", {}), **part.get("files", {})}.items()
    }


def _environment(parts: Mapping[str, Json]) -> Json:
    return next((part["environment"] for part in parts.values() if "environment" in part), {})


def _outcomes(evaluation: RunEvaluation | None) -> dict[str, Any]:
    if evaluation is None:
        return {}
    outcomes = {name: outcome for outcome, name, *_ in evaluation.rule_table()}
    return {"verdict": evaluation.blessing.get("sentence"), **outcomes}


def _metrics(before: RunEvaluation | None, after: RunEvaluation | None) -> tuple[MetricChange, ...]:
    if before is None or after is None:
        return ()
    return tuple(
        MetricChange(
            model, label, *(measured(e.metrics["models"][model], key) for e in (before, after))
        )
        for model in before.models
        if model in after.models
        for key, label in METRICS.items()
    )


def _paired(store: Store, before: Json, after: Json) -> Paired | None:
    """The candidates on the images that are in both evaluations."""
    answers = [_answers(store, run) for run in (before, after)]
    if answers[0] is None or answers[1] is None:
        return None
    import numpy as np

    from bnpipe.components.evaluator import paired, statistics

    (ids, right), (other_ids, other_right) = answers[0], answers[1]
    _, rows, other_rows = np.intersect1d(ids, other_ids, assume_unique=True, return_indices=True)
    if not rows.size:
        return None
    first, second = right[rows], other_right[other_rows]
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    params = (after.get("config") or {}).get("evaluator", {})
    counts = only_second, only_first, int(rows.size)
    rng = np.random.default_rng(int(params.get("seed", 0)))
    resampled = statistics.paired_bootstrap(*counts, int(params.get("resamples", 2000)), rng)
    confidence = float(params.get("confidence", 0.95))
    interval = paired.difference_interval(*counts, confidence, resampled)
    tail = float(
        statistics.mcnemar_worse(min(only_first, only_second), max(only_first, only_second))
    )
    return Paired(
        images=int(rows.size),
        only_before=only_first,
        only_after=only_second,
        difference=(only_second - only_first) / rows.size,
        interval=(float(interval.low), float(interval.high)),
        p_value=min(1.0, 2 * tail),
    )


def _answers(store: Store, run: Json) -> tuple[Any, Any] | None:
    """Ids bytes[N] of the evaluated images, and bool[N], true where the candidate was right."""
    import zipfile

    import numpy as np

    for step in run["steps"]:
        digest = step["outputs"].get("evaluation")
        if digest is None:
            continue
        path = store.object_path(digest) / "predictions.npz"
        with (
            suppress(OSError, ValueError, KeyError, zipfile.BadZipFile),
            np.load(path, allow_pickle=False) as stored,
        ):
            answered = stored["probabilities/candidate"].argmax(axis=1)
            return stored["id"], answered == stored["label"]
    return None
