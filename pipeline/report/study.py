"""The page of a study: its six verdicts, what they rest on, and what was chosen before looking."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnpipe.components.study import claims, readings, statistics, verdicts
from bnpipe.components.study.results import Training
from bnpipe.components.study.verdicts import Finding
from bnpipe.pipeline.report.charts import Table
from bnpipe.pipeline.report.page import template
from bnpipe.pipeline.report.study_charts import charts

FILE = "study.html"
_MOODS = {"supported": "good", "refuted": "bad"}


def render(trainings: Sequence[Training], findings: Sequence[Finding], dataset: str) -> str:
    """The whole page as text; the same study gives the same bytes.

    Args:
        trainings: all of them.
        findings: their verdicts.
        dataset: the data set's name.
    """
    rows = [(_MOODS.get(f.verdict, "neutral"), f, _details(f)) for f in findings]
    seeds = {(t.experiment, t.arm): set[int]() for t in trainings}
    for t in trainings:
        seeds[t.experiment, t.arm].add(t.seed)
    plan = [
        (experiment, arm, str(len(found)), str(max(t.steps for t in of)), str(len(of)))
        for (experiment, arm), found in seeds.items()
        for of in [[t for t in trainings if (t.experiment, t.arm) == (experiment, arm)]]
    ]
    return template("study.html.j2").render(
        dataset=dataset,
        rows=rows,
        charts=list(charts(trainings)),
        plan=Table(("part", "arm", "seeds", "steps", "trainings"), plan),
        count=len(trainings),
        chosen=_chosen(),
    )


def _details(finding: Finding) -> Table:
    """Every comparison of a claim."""
    rows = [
        (name, text, str(pairs), "yes" if decides else "")
        for name, _, text, pairs, decides in finding.rows
    ]
    return Table(("compared", "effect [95 %]", "pairs", "decides"), rows)


def _chosen() -> list[tuple[str, str]]:
    """The constants that verdicts rest on."""

    def factor(log: float) -> str:
        return f"a factor of {math.exp(log):.3g}"

    return [
        ("error over all six claims", f"{verdicts.ALPHA:.0%} (Holm), for differences and sameness"),
        ("fewest pairs that decide", str(statistics.MIN_PAIRS)),
        ("accuracies whose steps are counted", " and ".join(f"{a:.0%}" for a in claims.LEVELS)),
        ("a difference in accuracy that matters", f"{100 * claims.ACCURACY_MARGIN:g} points"),
        ("a difference in steps that matters", factor(claims.STEPS_MARGIN)),
        ("a difference in rates that matters", factor(claims.RATE_MARGIN)),
        ("a usable rate costs at most", f"{100 * readings.USABLE:g} points against the best"),
        ("gradients that are apart", factor(claims.GRADIENT_MARGIN)),
        ("a difference in shift that matters", factor(claims.SHIFT_MARGIN)),
    ]
