"""Charts of an overview: what was measured, over time, with the versions above."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import NullFormatter

from bnpipe.pipeline.report.charts import Chart, Table
from bnpipe.pipeline.report.evaluation import Measured
from bnpipe.pipeline.report.overview import Overview, Run
from bnpipe.pipeline.report.svg import (
    BAD,
    BASELINE,
    CANDIDATE,
    CHAMPION,
    GRID,
    INK,
    MUTED,
    draw,
    short_name,
)

_LOOKS = ((CANDIDATE, "o"), (BASELINE, "s"), (CHAMPION, "^"), (MUTED, "D"), (INK, "v"))
"""Colour and shape of a series: shapes tell them apart for those who see no colour."""
_VERSIONS = 8
"""The most versions that are named above a chart."""
_ESTIMATES = 400
"""The most estimates that are drawn."""


@dataclass
class Series:
    """Values over time.

    Attributes:
        name: what they are.
        times: when.
        values: the values, with their intervals.
        bad: for each, whether a gate said no; drawn as a cross.
    """

    name: str
    times: list[datetime] = field(default_factory=list)
    values: list[Measured] = field(default_factory=list)
    bad: list[bool] = field(default_factory=list)

    def add(self, at: datetime, value: Measured, *, bad: bool = False) -> None:
        """Adds a value, if it is one."""
        if value.value is not None and np.isfinite(value.value):
            self.times.append(at)
            self.values.append(value)
            self.bad.append(bad)

    @property
    def lines(self) -> npt.NDArray[np.float64]:
        """Time, value, low and high, float64[4, N]; low and high are the value without interval."""
        rows = [(v.value, *(v.interval or (v.value, v.value))) for v in self.values]
        return np.vstack([date2num(self.times), np.array(rows, np.float64).T])


def charts(found: Overview) -> Iterator[Chart]:
    """All that there are numbers for."""
    made = (
        _accuracy(found),
        _differences(found),
        _drift(found),
        _estimates(found),
        _seconds(found),
    )
    yield from (chart for chart in made if chart is not None)


def _accuracy(found: Overview) -> Chart | None:
    series: dict[str, Series] = {}
    for run in found.runs:
        if run.accuracy is not None:
            of = series.setdefault(run.dataset, Series(run.dataset))
            of.add(run.at, run.accuracy, bad=run.headline.mood == "bad")
    table = _by_run(found, "accuracy [95 %]", values=lambda run: (run.accuracy,))
    title = "Accuracy on test images, by run"
    return _chart(found, "accuracy", title, "accuracy", list(series.values()), table)


def _differences(found: Overview) -> Chart | None:
    names = ("baseline", "champion")
    series = [Series(f"to the {name}") for name in names]
    for run in found.runs:
        for of, name in zip(series, names, strict=True):
            of.add(run.at, _in_points(run.differences.get(name)), bad=run.headline.mood == "bad")
    table = _by_run(
        found,
        *(f"points against the {name} [95 %]" for name in names),
        values=lambda run: [_in_points(run.differences.get(n)) for n in names],
    )
    title = "Difference of accuracy, by run"
    return _chart(found, "differences", title, "points", series, table, line=0.0)


def _in_points(share: Measured | None) -> Measured:
    if share is None or share.value is None:
        return Measured(None)
    low, high = share.interval or (share.value, share.value)
    return Measured(100 * share.value, (100 * low, 100 * high))


def _drift(found: Overview) -> Chart | None:
    series = Series("largest distance")
    for run in found.runs:
        series.add(run.at, Measured(run.drift), bad=not run.data_passed)
    table = _by_run(found, "times the bound", values=lambda run: (Measured(run.drift),))
    title = "Drift of the data, by run (blocks above 1)"
    return _chart(found, "drift", title, "times the bound", [series], table, line=1.0)


def _estimates(found: Overview) -> Chart | None:
    stride = -(-len(found.estimates) // _ESTIMATES) or 1
    series, shown = Series("estimate"), found.estimates[::-1][::stride][::-1]
    for made in shown:
        series.add(made.at, made.accuracy, bad=made.drift)
    columns = ("time", "version", "requests", "accuracy [95 %]", "drift", "in words")
    rows = [
        (f"{e.at:%Y-%m-%d %H:%M}", f"v{e.version}", str(e.requests), str(e.accuracy),
         "yes" if e.drift else "", e.sentence)
        for e in shown
    ]  # fmt: skip
    title = "Estimated accuracy of the live version"
    table, bad = Table(columns, rows), "requests that drifted"
    return _chart(found, "estimates", title, "accuracy", [series], table, bad=bad, joined=True)


def _seconds(found: Overview) -> Chart | None:
    steps: dict[str, list[float]] = {}
    for run in found.runs:
        for name, seconds in run.steps.items():
            steps.setdefault(name, []).append(seconds)
    slowest = sorted(steps, key=lambda name: -median(steps[name]))[: len(_LOOKS) - 1]
    series = [Series("the whole run"), *map(Series, slowest)]
    for run in found.runs:
        if run.steps:
            series[0].add(run.at, Measured(run.seconds))
        for of in series[1:]:
            of.add(run.at, Measured(run.steps.get(of.name)))
    rows = [
        (*_named(run), f"{run.seconds:.1f}", *(_tenths(run.steps.get(name)) for name in steps))
        for run in found.runs
    ]
    table = Table(("run", "time", "whole run", *steps), rows)
    title = "Seconds, of steps that were not cached"
    return _chart(found, "seconds", title, "seconds", series, table, scale="log")


def _tenths(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _named(run: Run) -> tuple[str, str]:
    return run.id, f"{run.at:%Y-%m-%d %H:%M}"


def _by_run(
    found: Overview, *columns: str, values: Callable[[Run], Sequence[Measured | None]]
) -> Table:
    """A row for every run that has one of the values."""
    rows = []
    for run in found.runs:
        texts = [str(v) if v is not None and v.value is not None else "" for v in values(run)]
        if any(texts):
            version = "" if run.version is None else f"v{run.version}"
            rows.append((*_named(run), *texts, run.headline.title, version))
    return Table(("run", "time", *columns, "outcome", "version"), rows)


def _chart(
    found: Overview,
    name: str,
    title: str,
    label: str,
    series: Sequence[Series],
    table: Table,
    *,
    line: float | None = None,
    bad: str = "a gate said no",
    joined: bool = False,
    scale: str = "linear",
) -> Chart | None:
    """Points with intervals over time, if there are any; `line` is drawn across."""
    series = [of for of in series if of.times]
    if not series:
        return None

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
            look = {"color": colour, "ls": "", "markersize": size, "label": short_name(of.name)}
            filled = "full" if of is series[0] else "none"  # so that none hides another
            axes.plot(times[good], values[good], marker=shape, fillstyle=filled, **look)
            axes.plot(times[~good], values[~good], "x", ls="", color=BAD, markersize=4.5, mew=1.3)
        if any(any(of.bad) for of in series):
            axes.plot([], [], "x", ls="", color=BAD, markersize=4.5, mew=1.3, label=bad)
        if line is not None:
            axes.axhline(line, color=INK, linewidth=0.8, linestyle="--")
        axes.set_ylabel(label)
        if scale == "log":
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        _time_axis(axes, found)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)

    last = "; ".join(f"{of.name} {of.values[-1]}, {of.times[-1]:%Y-%m-%d}" for of in series)
    crosses = sum(sum(of.bad) for of in series)
    said = f" {crosses} crosses: {bad}." if crosses else ""
    alt = f"{title}. Newest: {last}.{said}"
    return Chart(title, alt, draw(f"overview-{name}", 3.3, alt, paint), table)


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
    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    first, last = axes.dataLim.intervalx
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)  # days
    low, high = axes.get_xlim()
    marks: list[tuple[float, str]] = []
    for at, version in reversed(found.versions):
        time = float(date2num(at))
        apart = not marks or marks[-1][0] - time >= (high - low) / _VERSIONS
        if low <= time <= high and apart:
            marks.append((time, version))
    if marks:
        above = axes.secondary_xaxis("top")
        above.set_xticks([t for t, _ in marks], [name for _, name in marks], fontsize=7)
        for time, _ in marks:
            axes.axvline(time, color=GRID, linewidth=0.8, linestyle=":", zorder=0)
