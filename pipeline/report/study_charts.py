"""Charts of a study: what every arm did, as its median over seeds with a band."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter
from scipy import stats

from bnpipe.components.study.claims import LEVELS
from bnpipe.components.study.readings import Trained, Trainings, steps_to
from bnpipe.pipeline.report.charts import Chart, Table
from bnpipe.pipeline.report.svg import BAD, BASELINE, CANDIDATE, CHAMPION, INK, MUTED, draw

NAMES = {
    "none": ("none", BASELINE, "-"),
    "batch": ("batch normalisation", CANDIDATE, "-"),
    "standardized": ("none, standardised inputs", CHAMPION, "--"),
    "layer": ("LayerNorm", MUTED, "--"),
    "noisy": ("noise after it", BAD, "-."),
    "moving": ("moving statistics", INK, ":"),
    "data_init": ("initialised from data", INK, "-."),
    "he": ("none, He initialisation", CHAMPION, "--"),
    "custom_batch": ("statistics of the batch", BAD, "-"),
}
"""What an arm is called on the page, and how it is drawn."""
_ROWS = 12
_BAND = (10, 50, 90)


@dataclass(frozen=True)
class Curve:
    """An arm's values over something: `band` is float64[3, x], low, middle and high."""

    x: Sequence[float]
    band: npt.NDArray[np.float64]


def charts(trainings: Trainings) -> Iterator[Chart]:
    """All that the study has data for."""
    trained = Trained(trainings)
    made = (
        _learning(trained),
        _arrivals(trained),
        *(_rates(trained, optimizer) for optimizer in ("adam", "sgd")),
        _gradients(trained),
        *_shift(trained),
        _inference(trained),
    )
    yield from (chart for chart in made if chart is not None)


def _curve(x: Sequence[float], rows: Sequence[Sequence[float | None]]) -> Curve:
    """Of one row of values per seed; what a diverged training has none of is left out."""
    values = np.array(rows, dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(values).any(axis=0))
    band = np.nanpercentile(values[:, kept], _BAND, axis=0)
    return Curve([x[int(i)] for i in kept], band)


def _learning(trained: Trained) -> Chart | None:
    curves = {}
    for arm in ("none", "batch", "standardized", "layer", "noisy", "moving"):
        of = trained.article(arm)
        if of and of[0].curve_steps:
            errors = [[100 * (1 - accuracy) for accuracy in t.curve_accuracy] for t in of]
            curves[arm] = _curve(of[0].curve_steps, errors)
    title = "Validation error at the article's rate, percent"
    return _chart("learning", title, "step", "error, %", curves, "log", "log")


def _arrivals(trained: Trained) -> Chart | None:
    """Kaplan-Meier: of trainings that stop before they get there it is known that they had not."""
    level, curves = LEVELS[-1], {}
    for arm, of in (("none", trained.own("none")), ("batch", trained.own("batch"))):
        steps = np.array([steps_to(level)(t, t.steps) for t in of])
        if of and np.isfinite(steps).any():
            ends = np.array([float(t.steps) for t in of])
            there = np.isfinite(steps)
            never = stats.CensoredData(uncensored=steps[there], right=ends[~there])
            waiting = stats.ecdf(never).sf
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of its ends, which have none
                interval = waiting.confidence_interval(method="log-log")
            found = [f.probabilities for f in (interval.high, waiting, interval.low)]
            band = 100 * (1 - np.nan_to_num(np.array(found), nan=0.0))
            curves[arm] = Curve(waiting.quantiles.tolist(), band)
    title = f"Trainings that have reached {level:.0%}, own rates, percent (Kaplan-Meier)"
    return _chart("arrivals", title, "step", "%", curves, "log", drawstyle="steps-post")


def _rates(trained: Trained, optimizer: str) -> Chart | None:
    curves = {}
    for arm in ("none", "batch", "layer", "data_init"):
        by_rate: dict[float, list[float]] = {}
        for t in trained.of("sweep", arm, optimizer=optimizer):
            by_rate.setdefault(t.learning_rate, []).append(100 * (t.validation_accuracy or 0))
        if by_rate:
            rows = [np.percentile(by_rate[rate], (0, 50, 100)) for rate in sorted(by_rate)]
            curves[arm] = Curve(sorted(by_rate), np.array(rows).T)
    title = f"Validation accuracy over learning rate, {optimizer}, percent"
    return _chart(f"rates-{optimizer}", title, "learning rate", "accuracy, %", curves, "log")


def _gradients(trained: Trained) -> Chart | None:
    depth = max((t.depth for t in trained.of("depth", "batch")), default=0)
    curves = {}
    for arm in ("none", "he", "batch"):
        rows = [t.gradient_norms for t in trained.of("depth", arm, depth=depth) if t.gradient_norms]
        if rows:
            curves[arm] = _curve(range(1, depth + 1), rows)
    title = f"Norm of the gradient at the start, {depth} hidden layers"
    return _chart("gradients", title, "hidden layer, first to last", "L2", curves, y_scale="log")


def _shift(trained: Trained) -> Iterator[Chart | None]:
    moved, change = {}, {}
    for arm in ("none", "batch", "noisy"):
        shifts = [t.shift for t in trained.article(arm) if t.shift is not None]
        if shifts:
            found = [[s.moved_15, s.moved_50, s.moved_85] for s in shifts]
            band = np.nanmean(np.array(found, dtype=np.float64), axis=0)
            moved[arm] = Curve(shifts[0].steps, band)
            change[arm] = _curve(shifts[0].steps, [s.gradient_change for s in shifts])
    title = "Covariate shift: change of a unit's mean input, in deviations (15 to 85 % of units)"
    yield _chart("moved", title, "step", "deviations", moved)
    title = "Change of a layer's gradient by the update of the layers below, relative"
    yield _chart("change", title, "step", "relative L2", change)


def _inference(trained: Trained) -> Chart | None:
    own = [t for t in trained.of("custom", "custom_batch") if t.accuracy_by_batch]
    if not own:
        return None
    sizes = sorted(map(int, own[0].accuracy_by_batch or ()))
    rows = [[100 * (t.accuracy_by_batch or {})[str(size)] for size in sizes] for t in own]
    curves = {"custom_batch": _curve(sizes, rows)}
    moving = [100 * t.test_accuracy for t in own if t.test_accuracy is not None]
    if moving:
        curves["moving"] = _curve(sizes, [[accuracy] * len(sizes) for accuracy in moving])
    title = "Test accuracy over images per batch at inference, percent"
    return _chart("inference", title, "images normalised together", "accuracy, %", curves, "log")


def _chart(
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    curves: Mapping[str, Curve],
    x_scale: str = "linear",
    y_scale: str = "linear",
    drawstyle: str = "default",
) -> Chart | None:
    """Lines with bands; None without any."""
    if not curves:
        return None
    step = "post" if drawstyle == "steps-post" else None

    def paint(axes: Axes) -> None:
        for arm, curve in curves.items():
            label, colour, line = NAMES[arm]
            low, middle, high = curve.band
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, lw=0, step=step)
            marker = "o" if len(curve.x) <= 8 else None
            axes.plot(
                *(curve.x, middle, line),
                color=colour,
                label=label,
                drawstyle=drawstyle,
                marker=marker,
                markersize=3,
            )
        axes.set_xscale(x_scale)
        axes.set_yscale(y_scale)
        if y_scale == "log":
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(fontsize=7)

    ends = [
        f"{NAMES[arm][0]} {_middle(curve, -1)} at {curve.x[-1]:g}" for arm, curve in curves.items()
    ]
    alt = f"{title}, over {x_label}. It ends: {'; '.join(ends)}."
    points = sorted({x for curve in curves.values() for x in curve.x})
    shown = [points[round(i)] for i in np.linspace(0, len(points) - 1, min(_ROWS, len(points)))]
    rows = [[f"{x:g}", *(_at(curve, x) for curve in curves.values())] for x in shown]
    table = Table([x_label, *(NAMES[arm][0] for arm in curves)], rows)
    return Chart(title, alt, draw(f"study-{name}", 3.1, alt, paint), table)


def _at(curve: Curve, x: float) -> str:
    """The middle and the band at a point; empty where the arm was not measured."""
    if x not in curve.x:
        return ""
    low, _, high = curve.band[:, list(curve.x).index(x)]
    return f"{_middle(curve, list(curve.x).index(x))} ({low:.4g} to {high:.4g})"


def _middle(curve: Curve, index: int) -> str:
    return f"{curve.band[1, index]:.4g}"
