"""Charts of an evaluation: slices, differences, confusion, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from components.evaluator.statistics import clopper_pearson
from pipeline.evaluation import RunEvaluation, measured, number, points
from pipeline.report.charts import Chart, Table
from pipeline.report.contents import Contents
from pipeline.report.svg import (
    BAD,
    CANDIDATE,
    INK,
    MODEL_COLOURS,
    MUTED,
    draw,
    short_name,
    tick_names,
)

MOST_ROWS = 40
"""A chart with more slices than this shows the worst ones; its table has all."""
MOST_CELLS = 20
"""A matrix with more rows or columns than this has no numbers in its cells."""

Json = Mapping[str, Any]
Parts = Mapping[str, Json]


def by_slice(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """Accuracy by slice, one chart per slicing, and the differences to every reference."""
    slicings: dict[tuple[str, ...], dict[str, Json]] = {}
    for name, found in evaluation.metrics.get("slices", {}).items():
        slicings.setdefault(tuple(found["columns"]), {})[name] = found
    # Classes first: they are what most readers look for.
    ordered = sorted(slicings, key=lambda columns: (columns != ("label",), columns))
    single = {c: _in_order(slicings[c]) for c in ordered if len(c) == 1}
    for number_, ((column,), parts) in enumerate(single.items()):
        yield _accuracy_by_slice(contents, evaluation, f"slices-{number_}", column, parts)
    compared = dict(slicings.get((), {}))
    for parts in single.values():
        compared |= parts
    for reference in evaluation.differences:
        yield _differences(contents, reference, compared)
    for number_, (columns, parts) in enumerate(slicings.items()):
        if len(columns) == 2:
            yield from _accuracy_by_two(contents, f"grid-{number_}", columns, parts)


def confusion(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """True class against most probable class, one matrix per model."""
    for model in evaluation.models:
        matrix = np.array(evaluation.metrics["models"][model]["confusion_matrix"])
        yield _confusion_matrix(contents, model, matrix)


def reliability(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """How often the models are right when they are so and so sure."""
    found = {m: evaluation.metrics["models"][m].get("reliability") for m in evaluation.models}
    diagrams = {model: bins for model, bins in found.items() if bins}
    if diagrams:
        yield _reliability_diagram(contents, evaluation, diagrams)


def slice_value(contents: Contents, column: str, value: str) -> str:
    """A slice's value as people call it: classes by their names."""
    if column == "label" and value.isdecimal():
        return contents.class_name(int(value))
    return value


def _slice_name(contents: Contents, name: str) -> str:
    column, _, value = name.partition(":")
    return f"{column} {slice_value(contents, column, value)}" if value else name


def _in_order(parts: Parts) -> dict[str, Json]:
    """Slices by value, numbers as numbers."""

    def order(name: str) -> tuple[bool, int, str]:
        value = name.partition(":")[2]
        return not value.isdecimal(), int(value) if value.isdecimal() else 0, value

    return {name: parts[name] for name in sorted(parts, key=order)}


def _accuracy_by_slice(
    contents: Contents, evaluation: RunEvaluation, chart: str, column: str, parts: Parts
) -> Chart:
    filled = {name: found for name, found in parts.items() if found["images"]}
    values = {name: slice_value(contents, column, name.partition(":")[2]) for name in filled}
    accuracy = {
        model: {name: measured(f["models"][model], "accuracy") for name, f in filled.items()}
        for model in evaluation.models
    }
    worst = sorted(filled, key=lambda name: accuracy[evaluation.models[0]][name].value or 0.0)
    shown = [name for name in filled if name in set(worst[:MOST_ROWS])]

    def paint(axes: Axes) -> None:
        for offset, model in enumerate(evaluation.models):
            found = [accuracy[model][name] for name in shown]
            y = np.arange(len(shown)) + 0.24 * (offset - (len(evaluation.models) - 1) / 2)
            x = np.array([m.value for m in found], float)
            ends = np.array([m.interval or (m.value, m.value) for m in found], float).reshape(-1, 2)
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
    found = {
        name: measured(part["against"][reference], "difference", "interval")
        for name, part in parts.items()
        if reference in part.get("against", {})
    }
    margin = contents.config.get("evaluator", {}).get("margin")
    lowest = sorted(found, key=lambda n: found[n].value or 0.0)[:MOST_ROWS]
    shown = [n for n in found if n in set(lowest) or n == "overall"]

    def paint(axes: Axes) -> None:
        for row, name in enumerate(shown):
            value, ends = found[name]
            low, high = ends or (value, value)
            colour = INK if name == "overall" else BAD if (high or 0) < 0 else CANDIDATE
            axes.hlines(row, 100 * (low or 0), 100 * (high or 0), color=colour, linewidth=2.4)
            axes.plot([100 * (value or 0)], [row], "o", color=colour, markersize=4)
        axes.axvline(0, color=INK, linewidth=1)
        if margin is not None:
            axes.axvline(-100 * margin, color=BAD, linewidth=1, linestyle=":")
            top = axes.get_xaxis_transform()
            axes.text(
                -100 * margin, 1.0, "margin", transform=top, color=BAD, ha="center", fontsize=8
            )
        tick_names(axes, "y", [_slice_name(contents, name) for name in shown])
        axes.invert_yaxis()
        axes.set_xlabel("percentage points of accuracy")

    names = contents.model_name("candidate"), contents.model_name(reference)
    title = f"Difference: {names[0]} minus {names[1]}"
    rows = [
        (
            _slice_name(contents, name),
            str(parts[name]["images"]),
            points(m.value or 0),
            f"{points(m.interval[0])} to {points(m.interval[1])}" if m.interval else "",
            str(parts[name]["against"][reference]["only_candidate"]),
            str(parts[name]["against"][reference]["only_reference"]),
        )
        for name, m in found.items()
    ]
    overall = rows[0] if "overall" in found else None
    alt = f"{title}, in points of accuracy by slice, with intervals."
    if overall:
        alt += f" Overall {overall[2]} ({overall[3]})."
    columns = ("slice", "images", "points", "interval", *(f"only {n} right" for n in names))
    height = 0.8 + 0.22 * max(len(shown), 1)
    return Chart(title, alt, draw(f"against-{reference}", height, alt, paint), Table(columns, rows))


def _accuracy_by_two(
    contents: Contents, chart: str, columns: tuple[str, ...], parts: Parts
) -> Iterator[Chart]:
    """The candidate's accuracy on the combinations of two columns, as a grid."""
    cells: dict[tuple[str, str], Json] = {}
    for name, found in parts.items():
        values = name.partition(":")[2].split("_X_")
        if len(values) != 2:
            return  # a value holds the separator itself: the cells cannot be told apart
        cells[values[0], values[1]] = found["models"]["candidate"]
    across, down = ([v[1:] for v in _in_order({f":{c[i]}": {} for c in cells})] for i in (0, 1))
    grid = np.full((len(down), len(across)), np.nan)
    for (column, row), found in cells.items():
        value = found["accuracy"]
        grid[down.index(row), across.index(column)] = np.nan if value is None else value
    names = tuple([slice_value(contents, columns[i], v) for v in (across, down)[i]] for i in (0, 1))
    worst = float(np.nanmin(grid)) if np.isfinite(grid).any() else 1.0

    def paint(axes: Axes) -> None:
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                alpha = 0.75 * (1 - value) / max(1 - worst, 1e-9)
                _cell(axes, row, column, BAD, alpha)
                if max(grid.shape) <= MOST_CELLS:
                    _cell_text(axes, row, column, f"{100 * value:.1f}")
        _frame(axes, names[0], names[1])
        axes.set_xlabel(columns[0], parse_math=False)
        axes.set_ylabel(columns[1], parse_math=False)

    name = contents.model_name("candidate")
    title = f"Accuracy by {columns[1]} and {columns[0]}, {name}, in %"
    alt = f"{title}. The lowest is {100 * worst:.1f} %."
    rows = [
        (name, *("" if np.isnan(v) else number(v) for v in values))
        for name, values in zip(names[1], grid, strict=True)
    ]
    table = Table((f"{columns[1]} \\ {columns[0]}", *names[0]), rows)
    yield Chart(
        title, alt, draw(chart, 0.9 + 0.27 * len(down) + _upright(names[0]), alt, paint), table
    )


def _confusion_matrix(contents: Contents, model: str, matrix: npt.NDArray[np.int64]) -> Chart:
    classes = [contents.class_name(k) for k in range(len(matrix))]
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    most = max(int(wrong.max(initial=0)), 1)

    def paint(axes: Axes) -> None:
        for (row, column), count in np.ndenumerate(matrix):
            if not count:
                continue
            right = row == column
            _cell(axes, row, column, CANDIDATE if right else BAD, 0.25 if right else count / most)
            if len(matrix) <= MOST_CELLS:
                _cell_text(axes, row, column, str(count))
        _frame(axes, classes, classes)
        axes.set_xlabel("most probable class")
        axes.set_ylabel("true class")
        axes.set_aspect("equal")

    pairs = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda rc: -wrong[rc])[:3]
    told = [f"{classes[r]} taken for {classes[c]} ({wrong[r, c]} times)" for r, c in pairs]
    title = f"Confusion matrix, {contents.model_name(model)}"
    alt = f"{title}: {int(wrong.sum())} of {int(matrix.sum())} images wrong"
    alt += f"; most often {', '.join(told)}." if told else "."
    rows = [(name, *map(str, counts)) for name, counts in zip(classes, matrix, strict=True)]
    table = Table(("true \\ answered", *classes), rows)
    return Chart(title, alt, draw(f"confusion-{model}", 3.9 + _upright(classes), alt, paint), table)


def _cell(axes: Axes, row: int, column: int, colour: str, alpha: float) -> None:
    box = Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=max(0.0, min(alpha, 0.8)), lw=0
    )
    axes.add_patch(box)


def _cell_text(axes: Axes, row: int, column: int, text: str) -> None:
    axes.text(column, row, text, ha="center", va="center", fontsize=7, color=INK)


def _upright(names: list[str]) -> float:
    """Inches that names need below a matrix when they must stand upright; 0 if they need not."""
    longest = max((len(short_name(name)) for name in names), default=0)
    return 0.08 * longest if longest > 3 else 0.0


def _frame(axes: Axes, across: list[str], down: list[str]) -> None:
    """Axes of a matrix: names of rows and columns, the first row on top."""
    tick_names(axes, "x", across, rotation=90 if _upright(across) else 0)
    tick_names(axes, "y", down)
    axes.set_xlim(-0.5, len(across) - 0.5)
    axes.set_ylim(len(down) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelsize=8 if max(len(across), len(down)) <= MOST_CELLS else 4)


def _reliability_diagram(
    contents: Contents, evaluation: RunEvaluation, diagrams: Mapping[str, Any]
) -> Chart:
    level = contents.config.get("evaluator", {}).get("confidence", 0.95)
    rows = []

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle="--")
        for model, bins in reversed(list(diagrams.items())):  # the candidate on top
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

    for model, bins in diagrams.items():
        rows += [
            (
                contents.model_name(model),
                number(b["confidence"]),
                number(b["accuracy"]),
                str(b["images"]),
            )
            for b in bins
        ]
    errors = [
        f"{contents.model_name(m)} {measured(evaluation.metrics['models'][m], 'calibration_error')}"
        for m in diagrams
    ]
    title = "Reliability diagram"
    alt = (
        "Share of right answers by confidence; on the diagonal, confidence is honest. "
        f"Expected calibration error: {'; '.join(errors)}."
    )
    columns = ("model", "mean confidence", "accuracy", "images")
    return Chart(title, alt, draw("reliability", 3.4, alt, paint), Table(columns, rows))
