"""Charts with rows and columns: confusion matrices, accuracy by two columns at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from bnpipe.pipeline.report.charts import Chart, Table
from bnpipe.pipeline.report.contents import Contents
from bnpipe.pipeline.report.evaluation import Json, Parts, RunEvaluation, in_order, measured
from bnpipe.pipeline.report.svg import BAD, CANDIDATE, INK, draw, short_name, tick_names

MOST_CELLS = 20
"""A matrix with more rows or columns than this has no numbers in its cells."""


def confusion(contents: Contents, evaluation: RunEvaluation) -> Iterator[Chart]:
    """True class against most probable class, one matrix per model."""
    for model in evaluation.models:
        matrix = np.array(evaluation.metrics["models"][model]["confusion_matrix"])
        yield _confusion_matrix(contents, model, matrix)


def accuracy_by_two(
    contents: Contents, chart: str, columns: tuple[str, ...], parts: Parts
) -> Iterator[Chart]:
    """The candidate's accuracy on the combinations of two columns, as a grid."""
    cells: dict[tuple[str, str], Json] = {}
    for name, part in parts.items():
        values = name.partition(":")[2].split("_X_")
        if len(values) != 2:
            return  # a value holds the separator itself: the cells cannot be told apart
        cells[values[0], values[1]] = part
    across, down = ([v[1:] for v in in_order({f":{c[i]}": {} for c in cells})] for i in (0, 1))
    grid, highest = np.full((2, len(down), len(across)), np.nan)
    table = [[""] * len(across) for _ in down]
    for (column, row), part in cells.items():
        accuracy = measured(part["models"]["candidate"], "accuracy")
        x, y = across.index(column), down.index(row)
        if accuracy.value is not None:
            grid[y, x] = accuracy.value
            highest[y, x] = accuracy.interval[1] if accuracy.interval else accuracy.value
            table[y][x] = f"{accuracy} of {part['images']}"
    names = tuple([contents.slice_value(columns[i], v) for v in (across, down)[i]] for i in (0, 1))
    worst = float(np.nanmin(grid)) if np.isfinite(grid).any() else 1.0
    # A handful of images shows little: a cell is as red as its accuracy is surely below 1.
    lost = 1 - highest
    most = max(float(np.nanmax(lost)) if np.isfinite(lost).any() else 0.0, 1e-9)

    def paint(axes: Axes) -> None:
        for (row, column), value in np.ndenumerate(grid):
            if np.isfinite(value):
                text = f"{100 * value:.1f}" if max(grid.shape) <= MOST_CELLS else ""
                _cell(axes, row, column, BAD, 0.75 * float(lost[row, column]) / most, text)
        _frame(axes, names[0], names[1])
        axes.set_xlabel(columns[0])
        axes.set_ylabel(columns[1])

    name = contents.model_name("candidate")
    title = f"Accuracy by {columns[1]} and {columns[0]}, {name}, in %"
    alt = (
        f"{title}. The lowest is {100 * worst:.1f} %. The redder a cell, the lower the upper end "
        "of its interval."
    )
    rows = [(name, *texts) for name, texts in zip(names[1], table, strict=True)]
    numbers = Table((f"{columns[1]} \\ {columns[0]}", *names[0]), rows)
    height = 0.9 + 0.27 * len(down) + _upright(names[0])
    yield Chart(title, alt, draw(chart, height, alt, paint), numbers)


def _confusion_matrix(contents: Contents, model: str, matrix: npt.NDArray[np.int64]) -> Chart:
    classes = [contents.class_name(k) for k in range(len(matrix))]
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    most = max(int(wrong.max(initial=0)), 1)

    def paint(axes: Axes) -> None:
        for (row, column), count in np.ndenumerate(matrix):
            colour, alpha = (CANDIDATE, 0.25) if row == column else (BAD, count / most)
            if count:
                text = str(count) if len(matrix) <= MOST_CELLS else ""
                _cell(axes, row, column, colour, alpha, text)
        _frame(axes, classes, classes)
        axes.set_xlabel("most probable class")
        axes.set_ylabel("true class")
        axes.set_aspect("equal")

    pairs = sorted(zip(*np.nonzero(wrong), strict=True), key=lambda rc: -wrong[rc])[:3]
    mistakes = [f"{classes[r]} taken for {classes[c]} ({wrong[r, c]} times)" for r, c in pairs]
    title = f"Confusion matrix, {contents.model_name(model)}"
    alt = f"{title}: {int(wrong.sum())} of {int(matrix.sum())} images wrong"
    alt += f"; most often {', '.join(mistakes)}." if mistakes else "."
    rows = [(name, *map(str, counts)) for name, counts in zip(classes, matrix, strict=True)]
    table = Table(("true \\ answered", *classes), rows)
    return Chart(title, alt, draw(f"confusion-{model}", 3.9 + _upright(classes), alt, paint), table)


def _cell(axes: Axes, row: int, column: int, colour: str, alpha: float, text: str) -> None:
    shade = max(0.0, min(alpha, 0.8))
    corner = column - 0.5, row - 0.5
    axes.add_patch(Rectangle(corner, 1, 1, facecolor=colour, alpha=shade, lw=0))
    if text:
        label = axes.text(column, row, text, ha="center", va="center", fontsize=7, color=INK)
        label.set_in_layout(False)  # it is inside, and to find that out takes as long as to draw it


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
