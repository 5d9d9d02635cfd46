"""What a notebook shows for a run or an evaluation: the report's first screen, small."""

from __future__ import annotations

from bnpipe.pipeline.evaluation import RunEvaluation
from bnpipe.pipeline.report.page import Headline, headline, templates
from bnpipe.pipeline.runs import RunFolder


def run_card(folder: RunFolder) -> str:
    """A run as HTML: verdict, metrics, steps."""
    run = folder.summary()
    evaluation = folder.evaluation
    title = f"run {run['id']} · {run['dataset']}"
    return _card(headline(run), title, evaluation, run["steps"])


def evaluation_card(evaluation: RunEvaluation) -> str:
    """An evaluation as HTML: verdict, metrics, rules."""
    verdict = headline({"verdict": {**evaluation.blessing, "step": "evaluator"}})
    title = str(evaluation.metrics.get("dataset", {}).get("name", ""))
    return _card(verdict, title, evaluation, ())


def _card(verdict: Headline, title: str, evaluation: RunEvaluation | None, steps: object) -> str:
    return (
        templates()
        .get_template("card.html.j2")
        .render(
            headline=verdict,
            title=title,
            models=evaluation.models if evaluation else (),
            metrics=evaluation.table() if evaluation and evaluation.models else (),
            rules=evaluation.rule_table() if evaluation and not steps else (),
            steps=steps,
        )
    )
