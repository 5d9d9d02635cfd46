"""The page of a study: its six verdicts, what they rest on, and what was chosen before looking."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.components.study import claims, plan, readings, results, verdicts
from bnpipe.components.study.results import Training
from bnpipe.components.study.verdicts import Finding
from bnpipe.data.durable import replace_text
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report.charts import Table
from bnpipe.pipeline.report.page import template
from bnpipe.pipeline.report.study_charts import charts

FILE = "study.html"
_STEP, _OUTPUT, _SECONDS = "study", "study", "seconds_per_step_"
_MOODS = {"supported": "good", "refuted": "bad"}


@dataclass(frozen=True)
class Judged:
    """A finished study.

    Attributes:
        run: of which it is.
        dataset: the data set's name.
        trainings: all of them.
        findings: a verdict per claim.
    """

    run: RunFolder
    dataset: str
    trainings: Sequence[Training]
    findings: Sequence[Finding]

    def to_json(self) -> dict[str, Any]:
        """The verdicts as plain values."""
        found = [finding.to_json() for finding in self.findings]
        return {"run": self.run.id, "dataset": self.dataset, "claims": found}


def judged(store: Store, run: RunFolder) -> Judged:
    """Read a run's study from the store and judge the claims.

    Raises:
        ConfigError: the run made no study.
        StoreError: what it made is damaged, or no longer there.
    """
    summary = run.summary()
    step: Mapping[str, Any] = next((s for s in summary["steps"] if s["name"] == _STEP), {})
    if _OUTPUT not in step.get("outputs", {}):
        raise ConfigError(f"run {run.id} made no study", hint="bnpipe study")
    trainings = results.read(store.require(step["outputs"][_OUTPUT], deep=False))
    named = {name: value for name, value in step["facts"].items() if name.startswith(_SECONDS)}
    seconds = {name.removeprefix(_SECONDS): float(value) for name, value in named.items()}
    findings = verdicts.judge(claims.claims_of(trainings, seconds))
    return Judged(run, summary["dataset"], trainings, findings)


def write_study(study: Judged, path: Path | None = None) -> Path:
    """Draw its page, by default into the run's folder.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = path or study.run.path / FILE
    try:
        replace_text(path, render(study.trainings, study.findings, study.dataset))
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}", hint="bnpipe study --out FILE"
        ) from None
    return path


def render(trainings: Sequence[Training], findings: Sequence[Finding], dataset: str) -> str:
    """The whole page as text; the same study gives the same bytes.

    Args:
        trainings: all of them.
        findings: their verdicts.
        dataset: the data set's name.
    """
    return template("study.html.j2").render(
        dataset=dataset,
        findings=[(_MOODS.get(f.verdict, "neutral"), f, _details(f)) for f in findings],
        charts=list(charts(trainings)),
        count=len(trainings),
        chosen=_chosen(),
    )


def _details(finding: Finding) -> Table:
    """Every comparison of a claim."""
    rows = [
        (name, verdicts.text(pair), str(pair.pairs), "yes" if decides else "")
        for name, pair, decides in finding.rows()
    ]
    return Table(("compared", "effect [95 %]", "pairs", "decides"), rows)


def _chosen() -> list[tuple[str, str]]:
    """The constants that verdicts rest on."""

    def factor(log: float) -> str:
        return f"a factor of {math.exp(log):.3g}"

    return [
        ("error over all six claims", f"{verdicts.ALPHA:.0%} (Holm), for differences and sameness"),
        ("fewest pairs that decide", str(plan.MIN_PAIRS)),
        ("accuracies whose steps are counted", " and ".join(f"{a:.0%}" for a in claims.LEVELS)),
        ("a difference in accuracy that matters", f"{100 * claims.ACCURACY_MARGIN:g} points"),
        ("a difference in steps that matters", factor(claims.STEPS_MARGIN)),
        ("a difference in rates that matters", factor(claims.RATE_MARGIN)),
        ("a usable rate costs at most", f"{100 * readings.USABLE:g} points against the best"),
        ("gradients that are apart", factor(claims.GRADIENT_MARGIN)),
        ("a difference in shift that matters", factor(claims.SHIFT_MARGIN)),
    ]
