"""The page itself: templates filled with contents, charts and pictures."""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from bnpipe.components.artifacts import SPLITS
from bnpipe.data.png import encode_stored
from bnpipe.pipeline.engine.fingerprint import flat
from bnpipe.pipeline.report import charts, data_charts, matrices
from bnpipe.pipeline.report.charts import Table
from bnpipe.pipeline.report.contents import SUSPECTS, Contents, Picture
from bnpipe.pipeline.report.evaluation import (
    Measured,
    RunEvaluation,
    measured,
    number,
    points,
    ruling_row,
)

Json = Mapping[str, Any]

TEMPLATE = "report.html.j2"

# What decides how the headline looks; the words say it too, for those who see no colour.
_GOOD, _BAD, _NEUTRAL = "good", "bad", "neutral"

_GROUPS = {
    "mistakes": "Worst mistakes",
    "disagreements/baseline": "Disagreements with the baseline",
    "disagreements/champion": "Disagreements with the champion",
    **{f"{SUSPECTS}/{split}": f"Labels in doubt, {split} split" for split in SPLITS},
}


@dataclass(frozen=True)
class Headline:
    """The first thing that the page says.

    Attributes:
        mood: `good`, `bad` or `neutral`.
        title: in two words.
        sentence: in one sentence.
    """

    mood: str
    title: str
    sentence: str


@dataclass(frozen=True)
class Tile:
    """One number that everybody asks for."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """A picture on the page.

    Attributes:
        uri: a `data:` URI of a PNG.
        id: the record's id, or what it is.
        label: the class.
        answers: what each model took it for, and how sure it was.
    """

    uri: str
    id: str
    label: str
    answers: Sequence[str]


@functools.cache
def template(name: str) -> Template:
    """One of the templates of pages, compiled once; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("bnpipe.pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def render(contents: Contents) -> str:
    """The whole page as text.

    Raises:
        DataError: a ruling is in words that this version does not know.
    """
    # Intervals need scipy.stats, which takes longer to load than the overview has to be drawn.
    from bnpipe.pipeline.report import evaluation_charts

    evaluation = contents.evaluation
    evaluated = evaluation if evaluation is not None and evaluation.models else None
    page = template(TEMPLATE).render(
        contents=contents,
        run=contents.run,
        headline=headline(contents.run),
        started=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(contents.run["started"])),
        tiles=list(_tiles(contents)),
        rules=_worst_first(evaluation.rule_table()) if evaluation else [],
        training=list(charts.training(contents)),
        canary=list(charts.canary(contents)),
        metrics=_metrics(contents, evaluated) if evaluated else None,
        slices=list(evaluation_charts.by_slice(contents, evaluated)) if evaluated else [],
        confusion=list(matrices.confusion(contents, evaluated)) if evaluated else [],
        classes=_classes(contents, evaluated) if evaluated else None,
        reliability=list(evaluation_charts.reliability(contents, evaluated)) if evaluated else [],
        pictures={
            _GROUPS.get(group, group): [_thumbnail(contents, p) for p in pictures]
            for group, pictures in contents.pictures.items()
            if pictures
        },
        dataset=_dataset(contents),
        checks=_worst_first(map(ruling_row, contents.data_gate.get("checks", ()))),
        labels=_worst_first(map(ruling_row, contents.labels.get("checks", ()))),
        splits=data_charts.splits(contents),
        spans=data_charts.spans(contents),
        trial=_worst_first(_trial(contents)),
        balance=list(data_charts.classes(contents)),
        means=list(_mean_images(contents)),
        times=charts.step_times(contents),
        config=list(flat(contents.config)),
        versions=_versions(contents),
    )
    # Half a surrogate pair is a valid JSON string and cannot be written.
    return page.encode("utf-8", "replace").decode()


def headline(run: Json) -> Headline:
    """The verdict where there is one, else how the run ended."""
    verdict = run.get("verdict")
    if run.get("error"):
        return Headline(_BAD, run["status"].capitalize(), run["error"])
    if verdict is not None:
        passed = verdict["passed"]
        title = "Blessed" if passed else "Not blessed"
        if verdict["step"] != "evaluator":
            title = f"{'Passed' if passed else 'Stopped'} by {verdict['step']}"
        # The evaluator's sentence begins with the title.
        sentence = verdict["sentence"].removeprefix(f"{title.lower()}: ")
        return Headline(_GOOD if passed else _BAD, title, sentence)
    mood = _NEUTRAL if run["status"] == "succeeded" else _BAD
    return Headline(mood, run["status"].capitalize(), "no gate took part in this run")


def _tiles(contents: Contents) -> Iterator[Tile]:
    evaluation = contents.evaluation
    if evaluation is not None:
        for model in evaluation.models:
            accuracy = measured(evaluation.metrics["models"][model], "accuracy")
            yield _tile(f"Accuracy {contents.model_name(model)}", accuracy, number)
        for model, difference in evaluation.differences.items():
            yield _tile(f"Points against {contents.model_name(model)}", difference, points)
    pushed = contents.run.get("pushed")
    if pushed:
        version = pushed.get("version")
        # What a gate stopped is told above.
        silent = version or pushed["sentence"].startswith("stopped by")
        name = f"v{version}" if version else "nothing"
        yield Tile("Published", name, "" if silent else pushed["sentence"])
    estimate = contents.estimate
    if estimate is not None:
        interval = f"{number(estimate.low)} to {number(estimate.high)}"
        yield Tile("Estimated since", number(estimate.accuracy), interval)


def _tile(name: str, metric: Measured, text: Callable[[float | None], str]) -> Tile:
    note = " to ".join(map(text, metric.interval)) if metric.interval else ""
    return Tile(name, text(metric.value), note)


def _trial(contents: Contents) -> Iterator[tuple[str, str, str]]:
    """Outcome, name and sentence of everything that a server was asked before the publication."""
    for finding in contents.trial.get("findings", ()):
        yield "block", f"SavedModel: {finding.get('code', '')}", str(finding.get("sentence", ""))
    for server, checks in contents.trial.get("checks", {}).items():
        for outcome, name, _, _, sentence in map(ruling_row, checks):
            yield outcome, f"{server}: {name}", sentence


def _worst_first(rules: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rules in their order, but what blocks or warns above the rest."""
    ranks = {"block": 0, "warn": 1}
    return sorted(rules, key=lambda rule: ranks.get(rule[0], 2))


def _metrics(contents: Contents, evaluation: RunEvaluation) -> Table:
    columns = ("metric", *(contents.model_name(m) for m in evaluation.models))
    return Table(columns, evaluation.table())


def _classes(contents: Contents, evaluation: RunEvaluation) -> Table:
    """Per class of the candidate: images, precision, recall, F1, AUC."""
    candidate = evaluation.metrics["models"][evaluation.models[0]]
    rows = []
    for k, scores in enumerate(candidate.get("classes", ())):
        images = sum(candidate["confusion_matrix"][k])
        shown = (str(measured(scores, key)) for key in ("precision", "recall", "f1", "auc"))
        rows.append((contents.class_name(k), str(images), *shown))
    return Table(("class", "images", "precision", "recall", "F1", "AUC"), rows)


def _thumbnail(contents: Contents, picture: Picture) -> Thumbnail:
    if "" in picture.answers:  # of no model of the run
        best, sure = picture.answers[""]
        answers = [f"seems {contents.class_name(best)} ({sure:.2f})", picture.id]
        given = f"given {contents.class_name(picture.label)}"
        return Thumbnail(_png(picture.pixels), picture.id, given, answers)
    answers = [
        f"{contents.model_name(name)}: {contents.class_name(label)} ({probability:.2f})"
        for name, (label, probability) in picture.answers.items()
    ]
    return Thumbnail(
        _png(picture.pixels), picture.id, f"is {contents.class_name(picture.label)}", answers
    )


def _mean_images(contents: Contents) -> Iterator[Thumbnail]:
    """The mean image of every class of the training split."""
    summary = contents.statistics.get("train")
    for label, mean in enumerate(summary.class_means if summary else ()):
        name = contents.class_name(label)
        yield Thumbnail(_png(np.rint(mean).astype(np.uint8)), f"mean image of {name}", name, ())


def _png(pixels: npt.NDArray[np.uint8]) -> str:
    """uint8[H, W] as a `data:` URI."""
    return "data:image/png;base64," + base64.b64encode(encode_stored(pixels)).decode()


def _dataset(contents: Contents) -> list[tuple[str, str]]:
    """The facts of the data set."""
    info = contents.dataset
    if not info:
        return [("name", str(contents.run.get("dataset", "")))]
    facts = [
        ("name", f"{info.get('name')} {info.get('version')}"),
        ("origin", "drawn by this project" if info.get("synthetic") else "TensorFlow Datasets"),
        ("images", f"{info.get('height')} x {info.get('width')} pixels, grey"),
        ("classes", ", ".join(map(str, info.get("label_names", ())))),
    ]
    facts += [(f"{split} images", str(n)) for split, n in info.get("splits", {}).items()]
    if "ink_cuts" in info:
        cuts = ", ".join(f"{cut:.4f}" for cut in info["ink_cuts"])
        facts.append(("mean intensity between ink quartiles", cuts))
    for step in contents.run["steps"]:
        facts += [
            (name.replace("_", " "), str(value))
            for name, value in step["facts"].items()
            if name in ("bad_records", "test_images_in_train_or_validation")
        ]
    return facts


def _versions(contents: Contents) -> list[tuple[str, str]]:
    """The versions that the run was made with."""
    provenance = contents.run.get("provenance") or {}
    return [
        *contents.environment.items(),
        *((name, str(value)) for name, value in provenance.items() if name != "run"),
        ("config digest", str(contents.run.get("config_digest", "-"))),
    ]
