"""Charts of a run: training, the canary it published, and the time of the steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bnpipe.pipeline.engine.runs import timeline
from bnpipe.pipeline.report.contents import Contents
from bnpipe.pipeline.report.evaluation import number
from bnpipe.pipeline.report.svg import BASELINE, CANDIDATE, CHAMPION, INK, draw, tick_names

COLOURS = (CANDIDATE, BASELINE, CHAMPION)


@dataclass(frozen=True)
class Table:
    """The numbers behind a chart, as texts."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A picture, what it says, and its numbers.

    Attributes:
        title: above it.
        alt: what it shows, in a sentence.
        svg: the drawing.
        table: its numbers.
    """

    title: str
    alt: str
    svg: Markup
    table: Table


def training(contents: Contents) -> Iterator[Chart]:
    """Loss and accuracy by epoch, all models in one chart."""
    for metric, title in (("loss", "Loss (cross-entropy)"), ("accuracy", "Accuracy")):
        if contents.histories:
            yield _training_curves(contents, metric, title)


def _training_curves(contents: Contents, metric: str, title: str) -> Chart:
    names = {step: contents.model_name(step) for step in contents.histories}

    def paint(axes: Axes) -> None:
        for (step, epochs), colour in zip(contents.histories.items(), COLOURS, strict=False):
            x = [e["epoch"] for e in epochs]
            for split, line in (("train", "--"), ("validation", "-")):
                y = [e.get(f"{split}_{metric}") for e in epochs]
                label = f"{names[step]}, {split}"
                marker = "o" if len(x) == 1 else None
                axes.plot(x, y, line, color=colour, label=label, marker=marker)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)

    last = [
        f"{names[step]} ends at {number(epochs[-1][f'validation_{metric}'])}"
        for step, epochs in contents.histories.items()
        if epochs[-1].get(f"validation_{metric}") is not None
    ]
    alt = f"{title} by epoch. On validation images {'; '.join(last)}."
    columns = [f"{names[s]}, {split}" for s in names for split in ("train", "validation")]
    rows = [
        [str(i + 1), *_row(contents, metric, i)]
        for i in range(max(map(len, contents.histories.values())))
    ]
    svg = draw(f"training-{metric}", 2.9, alt, paint)
    return Chart(title, alt, svg, Table(["epoch", *columns], rows))


def _row(contents: Contents, metric: str, epoch: int) -> Iterator[str]:
    """Every model's numbers of one epoch; empty for models that had fewer."""
    for epochs in contents.histories.values():
        values = epochs[epoch] if epoch < len(epochs) else {}
        for split in ("train", "validation"):
            value = values.get(f"{split}_{metric}")
            yield "" if value is None else number(value)


def canary(contents: Contents) -> Iterator[Chart]:
    """The difference of accuracy over time with its band, of the soak and of the bake."""
    titles = {"soak": "beside the live version", "bake": "live, beside the one before it"}
    for name, title in titles.items():
        soaked = contents.soaks.get(name) or {}
        if soaked.get("path"):
            yield _path(name, f"Canary {title}", soaked)


def _path(name: str, title: str, soaked: Mapping[str, Any]) -> Chart:
    path, margin = soaked["path"], 100 * soaked["margin"]
    columns = ("seconds", "pairs", "difference", "lower", "upper")
    seconds = [p["seconds"] for p in path]
    difference, lower, upper = ([100 * p[c] for p in path] for c in columns[2:])

    def paint(axes: Axes) -> None:
        axes.fill_between(seconds, lower, upper, color=CANDIDATE, alpha=0.2, label="band")
        axes.plot(seconds, difference, color=CANDIDATE, label="difference")
        axes.axhline(0, color=INK, linewidth=0.8)
        axes.axhline(-margin, color=INK, linewidth=0.8, linestyle="--", label="margin")
        widest = max(3 * margin, *(abs(d) for d in difference)) * 1.2
        axes.set_ylim(-widest, widest)  # the band begins at 100 points
        axes.set_xlabel("seconds")
        axes.set_ylabel("points of accuracy")
        axes.legend(fontsize=8)

    alt = f"{title}, {soaked['verdict']}: {soaked['sentence']}."
    rows = [
        [f"{p['seconds']:.1f}", str(p["pairs"]), *(number(p[c]) for c in columns[2:])] for p in path
    ]
    return Chart(title, alt, draw(f"canary-{name}", 2.9, alt, paint), Table(columns, rows))


def step_times(contents: Contents) -> Chart | None:
    """What ran beside what, and for how long; None when everything came from the cache."""
    spans = timeline(contents.run)
    if all(span.ahead for span in spans):
        return None
    names = [f"ready: {span.name}" if span.ahead else span.name for span in spans]

    def paint(axes: Axes) -> None:
        for row, span in enumerate(spans):
            colour = BASELINE if span.ahead else CANDIDATE
            axes.barh(row, span.seconds, left=span.start, color=colour, height=0.6)
            place = (span.start + span.seconds, row)
            text = f" {span.seconds:.1f} s"
            axes.annotate(text, place, va="center", color=INK, annotation_clip=False)
        tick_names(axes, "y", names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds since the run's start")
        axes.set_xlim(0, max(0.1, *(s.start + s.seconds for s in spans)) * 1.15)

    slowest = max((s for s in spans if not s.ahead), key=lambda s: s.seconds)
    alt = (
        f"What ran when. {slowest.name} took longest, {slowest.seconds:.1f} of the run's "
        f"{contents.run['seconds']:.1f} seconds. \u201cready\u201d is what an idle process loaded "
        "ahead of the step."
    )
    rows = [
        (name, f"{span.start:.2f}", f"{span.seconds:.2f}")
        for name, span in zip(names, spans, strict=True)
    ]
    svg = draw("times", 0.7 + 0.26 * len(spans), alt, paint)
    return Chart("Where the time went", alt, svg, Table(("step", "start", "seconds"), rows))
