"""Charts of an evaluation: slices, differences to the references, calibration."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bnpipe.components.evaluator.statistics import clopper_pearson
from bnpipe.pipeline.report.charts import Chart, Table
from bnpipe.pipeline.report.contents import Contents
from bnpipe.pipeline.report.evaluation import (
    Json,
    Parts,
    RunEvaluation,
    in_order,
    measured,
    number,
    points,
)
from bnpipe.pipeline.report.matrices import accuracy_by_two
from bnpipe.pipeline.report.svg import BAD, CANDIDATE, INK, MODEL_COLOURS, MUTED, draw, tick_names

MOST_ROWS = 40
"""A chart with more slices than this shows the worst ones; its table has all."""


def by_slice(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """Accuracy by slice, one chart per slicing, and the differences to every reference."""
    slicings: dict[tuple[str, ...], dict[str, Json]] = {}
    for name, part in evaluation.metrics.get("slices", {}).items():
        slicings.setdefault(tuple(part["columns"]), {})[name] = part
    # Classes first: they are what most readers look for.
    ordered = sorted(slicings, key=lambda columns: (columns != ("label",), columns))
    single = {c: in_order(slicings[c]) for c in ordered if len(c) == 1}
    for i, ((column,), parts) in enumerate(single.items()):
        yield _accuracy_by_slice(contents, evaluation, f"slices-{i}", column, parts)
    compared = dict(slicings.get((), {}))
    for parts in single.values():
        compared |= parts
    for reference in evaluation.differences:
        yield _differences(contents, reference, compared)
    for i, (columns, parts) in enumerate(slicings.items()):
        if len(columns) == 2:
            yield from accuracy_by_two(contents, f"grid-{i}", columns, parts)


def reliability(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """The share of right answers among those that the models are so and so sure of."""
    bins = {m: evaluation.metrics["models"][m].get("reliability") for m in evaluation.models}
    diagrams = {model: bins[model] for model in evaluation.models if bins[model]}
    if not diagrams:
        return
    level = contents.config.get("evaluator", {}).get("confidence", 0.95)

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        for model, bins in reversed(diagrams.items()):  # the candidate on top
            x = [b["confidence"] for b in bins]
            y = np.array([b["accuracy"] for b in bins])
            images = np.array([b["images"] for b in bins])
            low, high = clopper_pearson(np.rint(y * images), images, level)
            colour, name = MODEL_COLOURS[model], contents.model_name(model)
            if model == evaluation.models[0]:
                axes.vlines(x, low, high, color=colour, linewidth=2.4, alpha=0.45)
            axes.plot(x, y, "o-", color=colour, markersize=4, linewidth=1.2, label=name)
        axes.set_xlabel("confidence (probability of the answer)")
        axes.set_ylabel("share of right answers")
        axes.legend(fontsize=8, loc="upper left", reverse=True)

    names = {model: contents.model_name(model) for model in diagrams}
    rows = [
        (names[model], number(b["confidence"]), number(b["accuracy"]), str(b["images"]))
        for model in diagrams
        for b in diagrams[model]
    ]
    errors = [
        f"{name} {measured(evaluation.metrics['models'][model], 'calibration_error')}"
        for model, name in names.items()
    ]
    alt = (
        "Share of right answers by confidence; on the diagonal, confidence is honest. "
        f"Expected calibration error: {'; '.join(errors)}."
    )
    svg = draw("reliability", 3.4, alt, paint)
    columns = ("model", "mean confidence", "accuracy", "images")
    yield Chart("Reliability diagram", alt, svg, Table(columns, rows))


def _accuracy_by_slice(
    contents: Contents, evaluation: RunEvaluation, chart: str, column: str, parts: Parts
) -> Chart:
    filled = {name: part for name, part in parts.items() if part["images"]}
    values = {name: contents.slice_value(column, name.partition(":")[2]) for name in filled}
    accuracy = {
        model: {name: measured(f["models"][model], "accuracy") for name, f in filled.items()}
        for model in evaluation.models
    }
    worst = sorted(filled, key=lambda name: accuracy[evaluation.models[0]][name].value or 0.0)
    shown = [name for name in filled if name in set(worst[:MOST_ROWS])]

    def paint(axes: Axes) -> None:
        for offset, model in enumerate(evaluation.models):
            marks = [accuracy[model][name] for name in shown]
            y = np.arange(len(shown)) + 0.24 * (offset - (len(evaluation.models) - 1) / 2)
            x = np.array([m.value for m in marks], float)
            ends = np.array([m.interval or (m.value, m.value) for m in marks], float).reshape(-1, 2)
            axes.hlines(y, ends[:, 0], ends[:, 1], color=MODEL_COLOURS[model], linewidth=2.4)
            label = contents.model_name(model)
            axes.plot(x, y, "o", color=MODEL_COLOURS[model], markersize=4, label=label)
        tick_names(axes, "y", [values[name] for name in shown])
        axes.invert_yaxis()
        axes.set_xlabel("accuracy")
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)

    title = f"Accuracy by {column}"
    if len(shown) < len(filled):
        title += f", the {len(shown)} lowest of {len(filled)}"
    alt = f"{title}, with intervals."
    if worst:
        low = worst[0]
        value = accuracy[evaluation.models[0]][low]
        alt += f" Lowest for {contents.model_name(evaluation.models[0])}: {values[low]}, {value}."
    rows = [
        (values[n], str(filled[n]["images"]), *(str(accuracy[m][n]) for m in evaluation.models))
        for n in filled
    ]
    names = [contents.model_name(m) for m in evaluation.models]
    height = 1.0 + (0.16 + 0.1 * len(evaluation.models)) * max(len(shown), 1)
    svg = draw(chart, height, alt, paint)
    return Chart(title, alt, svg, Table((column, "images", *names), rows))


def _differences(contents: Contents, reference: str, parts: Parts) -> Chart:
    compared = {
        name: measured(part["against"][reference], "difference", "interval")
        for name, part in parts.items()
        if reference in part.get("against", {})
    }
    gate = contents.config.get("evaluator", {})
    margin, slice_margin = gate.get("margin"), gate.get("slice_margin")
    known = {name: m for name, m in compared.items() if m.value is not None}
    lowest = sorted(known, key=lambda n: known[n].value or 0.0)[:MOST_ROWS]
    shown = [n for n in known if n in set(lowest) or n == "overall"]

    def paint(axes: Axes) -> None:
        for row, name in enumerate(shown):
            value = known[name].value or 0
            low, high = known[name].interval or (value, value)
            tolerated = margin if name == "overall" else slice_margin
            beyond = tolerated is not None and high < -tolerated
            colour = BAD if beyond else INK if name == "overall" else CANDIDATE
            axes.hlines(row, 100 * low, 100 * high, color=colour, linewidth=2.4)
            axes.plot([100 * value], [row], "o", color=colour, markersize=4)
            if tolerated is not None:
                ends = row - 0.5, row + 0.5
                axes.vlines(-100 * tolerated, *ends, color=BAD, linewidth=1, linestyle=":")
        axes.axvline(0, color=INK, linewidth=1)
        if margin is not None:
            at, top = -100 * margin, axes.get_xaxis_transform()
            style = {"color": BAD, "ha": "center", "va": "bottom", "fontsize": 8}
            axes.text(at, 1.0, "tolerated loss", transform=top, **style)
        tick_names(axes, "y", [contents.slice_name(name) for name in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlabel("percentage points of accuracy")

    names = contents.model_name("candidate"), contents.model_name(reference)
    title = f"Difference: {names[0]} minus {names[1]}"
    rows = [
        (
            contents.slice_name(name),
            str(parts[name]["images"]),
            points(m.value),
            f"{points(m.interval[0])} to {points(m.interval[1])}" if m.interval else "",
            str(parts[name]["against"][reference]["only_candidate"]),
            str(parts[name]["against"][reference]["only_reference"]),
        )
        for name, m in compared.items()
    ]
    alt = f"{title}, in points of accuracy by slice, with intervals."
    if "overall" in compared:
        alt += f" Overall {rows[0][2]} ({rows[0][3]})."
    if margin is not None and slice_margin is not None:
        alt += (
            f" Dotted: the loss that the gate tolerates, {100 * margin:g} points overall and "
            f"{100 * slice_margin:g} on a slice."
        )
    columns = ("slice", "images", "points", "interval", *(f"only {n} right" for n in names))
    height = 0.8 + 0.22 * max(len(shown), 1)
    return Chart(title, alt, draw(f"against-{reference}", height, alt, paint), Table(columns, rows))
