"""Charts of an overview: what was measured, over time, with the versions above."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from statistics import median
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import NullFormatter

from bnpipe.pipeline.report import svg
from bnpipe.pipeline.report.charts import COLOURS, Chart, Table
from bnpipe.pipeline.report.evaluation import Measured
from bnpipe.pipeline.report.overview import Estimate, Overview, Run

_LOOKS = tuple(zip((*COLOURS, svg.MUTED, svg.INK), "os^Dv", strict=True))
"""Colour and shape of a series: shapes tell them apart for those who see no colour."""
_VERSIONS = 8
"""The most versions that are named above a chart."""
_LETTERS = 55
"""So many letters fit there."""
_ESTIMATES = 400
"""The most estimates that are drawn."""
_MINUTE = "%Y-%m-%d %H:%M"

Values = dict[str, Callable[[Run], Measured | None]]
"""Values that runs may have, by what they are called."""


@dataclass(frozen=True)
class Series:
    """Values over time.

    Attributes:
        name: what they are.
        made: what they were measured of.
        values: the values, with their intervals.
        bad: for each, whether something said no; drawn as a cross.
    """

    name: str
    made: Sequence[Run | Estimate]
    values: Sequence[Measured]
    bad: Sequence[bool]

    @property
    def times(self) -> Sequence[datetime]:
        """When."""
        return [of.at for of in self.made]

    @property
    def lines(self) -> npt.NDArray[np.float64]:
        """Time, value, low and high, float64[4, N]; low and high are the value without interval."""
        rows = [(v.value, *(v.interval or (v.value, v.value))) for v in self.values]
        return np.vstack([date2num(self.times), np.array(rows, np.float64).T])


def charts(found: Overview) -> Iterator[Chart]:
    """All that there are numbers for."""
    made = _accuracy(found), _differences(found), _drift(found), _estimates(found), _seconds(found)
    yield from (chart for chart in made if chart is not None)


def _accuracy(found: Overview) -> Chart | None:
    values: Values = {
        name: partial(lambda name, run: run.accuracy if run.dataset == name else None, name)
        for name in _names(run.dataset for run in found.runs if run.accuracy)
    }
    return _by_run(found, values, "accuracy", "Accuracy on test images, by run", "accuracy")


def _names(names: Iterable[str]) -> list[str]:
    """Each once: the last ones, for which there are looks, by name, and then the others."""
    once = list(dict.fromkeys(reversed(list(names))))
    return [*sorted(once[: len(_LOOKS)]), *once[len(_LOOKS) :]]


def _differences(found: Overview) -> Chart | None:
    values: Values = {
        f"to the {name}": partial(lambda name, run: _points(run.differences.get(name)), name)
        for name in ("baseline", "champion")
    }
    return _by_run(found, values, "differences", "Difference of accuracy, by run", "points", line=0)


def _points(share: Measured | None) -> Measured | None:
    if share is None or share.value is None:
        return None
    low, high = share.interval or (share.value, share.value)
    return Measured(100 * share.value, (100 * low, 100 * high))


def _drift(found: Overview) -> Chart | None:
    title, label = "Drift of the data, by run (1: the bound to block)", "times the bound"
    values: Values = {"largest distance": lambda run: Measured(run.drift)}
    options = {"line": 1, "cross": "the data gate said no"}
    return _by_run(found, values, "drift", title, label, bad=lambda r: not r.data_passed, **options)


def _seconds(found: Overview) -> Chart | None:
    steps: dict[str, list[float]] = {}
    for run in found.runs:
        for name, seconds in run.steps.items():
            steps.setdefault(name, []).append(seconds)
    values: Values = {"the whole run": lambda run: Measured(run.seconds) if run.steps else None}
    for name in sorted(steps, key=lambda name: -median(steps[name])):
        values[name] = partial(lambda name, run: Measured(run.steps.get(name)), name)
    title = "Seconds, of steps that were not cached"
    return _by_run(found, values, "seconds", title, "seconds", scale="log")


def _estimates(found: Overview) -> Chart | None:
    shown, every = found.estimates[-_ESTIMATES:], len(found.estimates)
    series = []
    for name in _names(e.model for e in shown):
        made = [e for e in shown if e.model == name]
        series.append(Series(name, made, [e.accuracy for e in made], [e.drift for e in made]))
    rows = [
        (f"{e.at:{_MINUTE}}", found.name(e), str(e.requests), str(e.accuracy), e.sentence)
        for e in shown
    ]
    table = Table(("time", "version", "requests", "accuracy", "in words"), rows)
    title, cross = "Estimated accuracy of the live version, 99 % band", "requests that drifted"
    if every > len(shown):
        title += f" (the newest {len(shown)} of {every:,})"
    return _chart(found, "estimates", title, "accuracy", series, table, cross=cross, joined=True)


def _by_run(
    found: Overview,
    values: Values,
    name: str,
    title: str,
    label: str,
    *,
    bad: Callable[[Run], bool] = lambda run: run.headline.mood == "bad",
    **options: Any,
) -> Chart | None:
    """A series for each of the values that a run may have, and a row for each run that has one."""
    series, rows = [], []
    for of, value in values.items():
        having = [(run, v) for run in found.runs if _is_number(v := value(run))]
        made = [run for run, _ in having]
        series.append(Series(of, made, [v for _, v in having], [bad(run) for run in made]))
    for run in found.runs:
        texts = [str(v) if _is_number(v := value(run)) else "" for value in values.values()]
        version = "" if run.version is None else f"v{run.version}"
        if any(texts):
            rows.append((run.id, f"{run.at:{_MINUTE}}", *texts, run.headline.title, version))
    table = Table(("run", "time", *values, "outcome", "version"), rows)
    return _chart(found, name, title, label, series, table, **options)


def _is_number(value: Measured | None) -> TypeGuard[Measured]:
    return value is not None and value.value is not None and math.isfinite(value.value)


def _chart(
    found: Overview,
    name: str,
    title: str,
    label: str,
    series: Sequence[Series],
    table: Table,
    *,
    line: float | None = None,
    cross: str = "the run did not pass",
    joined: bool = False,
    scale: str = "linear",
) -> Chart | None:
    """Points with intervals over time, if there are any; `line` is drawn across."""
    having = [of for of in series if of.made]
    series = having[: len(_LOOKS)]
    if not series:
        return None
    if len(having) > len(series):
        title += f" ({len(having) - len(series)} more below, in numbers)"

    def paint(axes: Axes) -> None:
        axes.set_yscale(scale)
        low, high = _limits(series, line, scale)
        for of, (colour, shape) in zip(series, _LOOKS, strict=False):
            times, values, lows, highs = of.lines
            values, lows, highs = (np.clip(row, low, high) for row in (values, lows, highs))
            if joined and len(times) > 1:
                axes.fill_between(times, lows, highs, color=colour, alpha=0.2, lw=0)
                axes.plot(times, values, color=colour, lw=1)
            elif (lows < highs).any():
                axes.vlines(times, lows, highs, color=colour, alpha=0.45, lw=1)
            good, size = ~np.array(of.bad), 3.5 if len(times) < 60 else 2.5
            look = {"color": colour, "ls": "", "markersize": size, "label": svg.short_name(of.name)}
            filled = "full" if of is series[0] else "none"  # so that none hides another
            axes.plot(times[good], values[good], marker=shape, fillstyle=filled, **look)
            axes.plot(
                times[~good], values[~good], "x", ls="", color=svg.BAD, markersize=4.5, mew=1.3
            )
        if any(any(of.bad) for of in series):
            axes.plot([], [], "x", ls="", color=svg.BAD, markersize=4.5, mew=1.3, label=cross)
        if line is not None:
            axes.axhline(line, color=svg.INK, linewidth=0.8, linestyle="--")
        axes.set_ylabel(label)
        if scale == "log":
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        _time_axis(axes, found)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)

    last = "; ".join(f"{of.name} {of.values[-1]}, {of.times[-1]:%Y-%m-%d}" for of in series)
    pairs = (pair for of in series for pair in zip(of.made, of.bad, strict=True))
    crosses = len({id(made) for made, bad in pairs if bad})
    said = f" Crosses, {crosses}: {cross}." if crosses else ""
    alt = f"{title}. Newest: {last}.{said}"
    return Chart(title, alt, svg.draw(f"overview-{name}", 3.3, alt, paint), table)


def _limits(series: Sequence[Series], line: float | None, scale: str) -> tuple[float, float]:
    """The ends of what is drawn: most of what gates let pass, and its width beyond.

    So a run among hundreds that learned nothing does not press the others flat.
    """
    if scale == "log":
        return 0.01, np.inf
    lines = np.concatenate([of.lines for of in series], axis=1)
    passed = ~np.concatenate([of.bad for of in series])
    _, _, lows, highs = lines[:, passed] if passed.any() else lines
    across = () if line is None else (line,)
    low, high = min((np.percentile(lows, 2), *across)), max((np.percentile(highs, 98), *across))
    beyond = max(high - low, 1e-3)
    return low - beyond, high + beyond


def _time_axis(axes: Axes, found: Overview) -> None:
    """Dates below, numbers of versions above: the newest of those that would touch."""
    # Of its widest step of seconds, seven make three minutes, and so with every other unit.
    locator = AutoDateLocator(minticks=3, maxticks=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    first, last = axes.dataLim.intervalx
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)  # days
    low, high = axes.get_xlim()
    longest = max((len(svg.short_name(name)) for name in found.versions), default=0)
    apart = (high - low) * max(1 / _VERSIONS, longest / _LETTERS)
    marks: list[tuple[float, str]] = []
    for version, at in reversed(found.versions.items()):
        time = float(date2num(at))
        if low <= time <= high and (not marks or marks[-1][0] - time >= apart):
            marks.append((time, svg.short_name(version)))
    if marks:
        above = axes.secondary_xaxis("top")
        above.set_xticks([t for t, _ in marks], [name for _, name in marks], fontsize=7)
        for time, _ in marks:
            axes.axvline(time, color=svg.GRID, linewidth=0.8, linestyle=":", zorder=0)
