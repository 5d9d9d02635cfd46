"""Charts of a study: what every arm did, as its median over seeds with a band."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from scipy import stats

from bnpipe.components.study.claims import LEVELS
from bnpipe.components.study.readings import Trained, Trainings, steps_to
from bnpipe.components.study.results import Training
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


@dataclass(frozen=True)
class Curve:
    """An arm's values over something: `band` is float64[3, x], low, middle and high."""

    x: Sequence[float]
    band: npt.NDArray[np.float64]


Curves = dict[str, Curve]


def charts(trainings: Trainings) -> Iterator[Chart]:
    """All that the study has data for."""
    trained, high = Trained(trainings), f"{LEVELS[-1]:.0%}"
    depth = max((t.depth for t in trained.of("depth", "batch")), default=0)
    deep = {arm: trained.of("depth", arm, depth=depth) for arm in ("none", "he", "batch")}
    article = {arm: trained.article(arm) for arm in NAMES}
    shifted = {a: [t for t in article[a] if t.shift] for a in ("none", "batch", "noisy")}
    learning = _curves(article, lambda t: t.curve_steps, _errors)
    change = _curves(
        shifted,
        lambda t: t.shift.steps if t.shift else (),
        lambda t: t.shift.gradient_change if t.shift else (),
    )
    gradients = _curves(deep, lambda t: range(1, depth + 1), lambda t: t.gradient_norms or ())
    waits = _arrivals({arm: trained.own(arm) for arm in ("none", "batch")})
    reached = f"Trainings that have reached {high}, own rates (Kaplan-Meier)"
    start = f"Norm of the gradient at the start, {depth} hidden layers"
    units = "Covariate shift: change of a unit's mean input (15 to 85 % of units)"
    below = "Change of a layer's gradient by the update of the layers below"
    many = "Test accuracy over images per batch at inference"
    made = [
        _chart(
            "learning", "Validation error at the article's rate", "step", "%", learning, "log log"
        ),
        _chart("arrivals", reached, "step", "%", waits, "steps"),
        *(
            _chart(f"rates-{of}", f"Accuracy over learning rate, {of}", "rate", "%", curves, "log")
            for of, curves in ((of, _rates(trained, of)) for of in ("adam", "sgd"))
        ),
        _chart("gradients", start, "layer, first to last", "L2", gradients, "linear log"),
        _chart("moved", units, "step", "standard deviations", _moved(shifted)),
        _chart("change", below, "step", "relative L2", change),
        _chart("inference", many, "images at once", "%", _inference(trained), "log"),
    ]
    yield from (chart for chart in made if chart is not None)


def _curves(
    arms: Mapping[str, Trainings],
    x: Callable[[Training], Sequence[float]],
    y: Callable[[Training], Sequence[float | None]],
) -> Curves:
    """The median over seeds and what 80 % of them lie between, of what is a number."""
    curves = {}
    for arm, trainings in arms.items():
        of = [training for training in trainings if x(training)]
        if of:
            rows = np.array([y(training) for training in of], dtype=np.float64)
            kept = np.flatnonzero(np.isfinite(rows).any(axis=0))
            if not kept.size:
                continue
            band = np.nanpercentile(rows[:, kept], (10, 50, 90), axis=0)
            curves[arm] = Curve([x(of[0])[int(i)] for i in kept], band)
    return curves


def _errors(training: Training) -> list[float]:
    return _percent(1 - accuracy for accuracy in training.curve_accuracy)


def _percent(shares: Iterable[float]) -> list[float]:
    return [100 * share for share in shares]


def _arrivals(arms: Mapping[str, Trainings]) -> Curves:
    """Kaplan-Meier: of trainings that stop before they get there it is known that they had not."""
    curves = {}
    for arm, trainings in arms.items():
        of = [training for training in trainings if training.curve_steps]
        steps = np.array([steps_to(LEVELS[-1])(t, t.steps) for t in of])
        there = np.isfinite(steps)
        if there.any():
            ends = np.array([float(t.steps) for t in of])
            never = stats.CensoredData(uncensored=steps[there], right=ends[~there])
            waiting = stats.ecdf(never).sf
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of its ends, which have none
                interval = waiting.confidence_interval(method="log-log")
            found = [f.probabilities for f in (interval.high, waiting, interval.low)]
            band = 100 * (1 - np.nan_to_num(np.array(found), nan=0.0))
            curves[arm] = Curve(waiting.quantiles.tolist(), band)
    return curves


def _rates(trained: Trained, optimizer: str) -> Curves:
    """Of few seeds: the least, the median and the best."""
    curves = {}
    for arm in ("none", "batch", "layer", "data_init"):
        by_rate: dict[float, list[float]] = {}
        for t in trained.of("sweep", arm, optimizer=optimizer):
            by_rate.setdefault(t.learning_rate, []).append(100 * (t.validation_accuracy or 0))
        if by_rate:
            rows = [np.percentile(by_rate[rate], (0, 50, 100)) for rate in sorted(by_rate)]
            curves[arm] = Curve(sorted(by_rate), np.array(rows).T)
    return curves


def _moved(arms: Mapping[str, Trainings]) -> Curves:
    """Percentiles over the units, averaged over seeds."""
    curves = {}
    for arm, of in arms.items():
        shifts = [t.shift for t in of if t.shift is not None]
        if shifts:
            found = [[s.moved_15, s.moved_50, s.moved_85] for s in shifts]
            band = np.nanmean(np.array(found, dtype=np.float64), axis=0)
            curves[arm] = Curve(shifts[0].steps, band)
    return curves


def _inference(trained: Trained) -> Curves:
    own = [t for t in trained.of("custom", "custom_batch") if t.accuracy_by_batch]
    sizes = sorted(map(int, own[0].accuracy_by_batch or ())) if own else []

    def of_batches(training: Training) -> list[float]:
        return _percent([(training.accuracy_by_batch or {})[str(size)] for size in sizes])

    by_batch = _curves({"custom_batch": own}, lambda t: sizes, of_batches)
    moving = _curves(
        {"moving": own}, lambda t: sizes, lambda t: _percent([t.test_accuracy or 0] * len(sizes))
    )
    return by_batch | moving


def _chart(
    name: str, title: str, x_label: str, y_label: str, curves: Curves, how: str = ""
) -> Chart | None:
    """Lines with bands, if any; `how` may ask for `steps`, or for the scales of x and y."""
    if not curves:
        return None
    steps = how == "steps"
    x_scale, y_scale, *_ = [*("" if steps else how).split(), "linear", "linear"]

    def paint(axes: Axes) -> None:
        for arm, curve in curves.items():
            label, colour, line = NAMES[arm]
            low, middle, high = curve.band
            step = "post" if steps else None
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.15, lw=0, step=step)
            look = {"drawstyle": "steps-post" if steps else "default", "label": label}
            marker = "o" if len(curve.x) <= 8 else None
            axes.plot(curve.x, middle, line, color=colour, marker=marker, markersize=3, **look)
        axes.set_xscale(x_scale)
        axes.set_yscale(y_scale)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":  # its own labels are mathematics, slow and no text
                axis.set_major_formatter("{x:g}")
                axis.set_minor_formatter(NullFormatter())
        low, high = axes.get_ylim()
        if y_scale == "log" and high < 300 * low:
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(fontsize=7)

    ends = (f"{NAMES[a][0]} {c.band[1, -1]:.4g} at {c.x[-1]:g}" for a, c in curves.items())
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
    low, middle, high = curve.band[:, list(curve.x).index(x)]
    return f"{middle:.4g} ({low:.4g} to {high:.4g})"
