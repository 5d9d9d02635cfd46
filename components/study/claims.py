"""The article's six claims about batch normalisation, and what decides each of them.

What was chosen before looking stands here and in `verdicts`: the measure that decides a claim, the
control that could explain it otherwise, levels and margins. The rest is shown beside and decides
nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bnpipe.components.study import readings
from bnpipe.components.study.readings import Trained, Trainings, Value, accuracy, pair, small_gap
from bnpipe.components.study.results import Training
from bnpipe.components.study.statistics import Paired
from bnpipe.components.study.verdicts import Check, Claim, text

LEVELS = (0.95, 0.97)
"""Validation accuracies whose steps are counted: what MNIST's network of 64 units reaches early and
late. The last one decides."""
ACCURACY_MARGIN = 0.001
"""A tenth of a point, ten of MNIST's test images: less than the 0.15 points by which the draw of
10,000 images moves an accuracy of 97.7 %."""
STEPS_MARGIN = math.log(1.1)
"""A tenth of the steps: about what a step with batch normalisation costs more in seconds."""
RATE_MARGIN = math.log(2)
"""A factor of two: less than the distance between two rates of the sweep."""
GRADIENT_MARGIN = math.log(2)
"""A factor of two between first and last layer: what a search for a rate corrects by one step."""
GHOSTS = ("ghost_8", "ghost_16", "ghost_32")
SHIFT_MARGIN = math.log(1.1)
"""A tenth, as for steps: a shift that is to explain a tenth of the speed is to change as much."""


def _steps(x: Trainings, y: Trainings, level: float) -> Paired | None:
    return pair(x, y, readings.steps_to(level), "steps", STEPS_MARGIN)


def _points(x: Trainings, y: Trainings, value: Value = accuracy) -> Paired | None:
    return pair(x, y, value, "points", ACCURACY_MARGIN)


def _shifts(x: Trainings, y: Trainings, series: str) -> Paired | None:
    return pair(x, y, readings.shifted(series), "ratio", SHIFT_MARGIN)


def claims_of(
    trainings: Sequence[Training], seconds: Mapping[str, float] | None = None
) -> list[Claim]:
    """The six claims with what was measured.

    Args:
        trainings: of a finished study.
        seconds: processor seconds of a step, by arm, where they are known.
    """
    trained = Trained(trainings)
    return [
        _faster(trained, seconds or {}),
        _higher_rates(trained),
        _regularises(trained),
        _gradients(trained),
        _shift(trained),
        _own_layer(trained),
    ]


def _faster(trained: Trained, seconds: Mapping[str, float]) -> Claim:
    batch, none, scaled = (trained.article(arm) for arm in ("batch", "none", "standardized"))
    own = trained.own("batch"), trained.own("none")
    low, high = LEVELS
    gate, timed = _steps(*own, high), None
    if gate is not None and {"batch", "none"} <= seconds.keys():
        x, y = (seconds[arm] for arm in ("batch", "none"))
        timed = replace(gate, x=gate.x * x, y=gate.y * y, cap=gate.cap * min(x, y))
    control = Check(
        "against none on standardised inputs, article's rate",
        _steps(batch, scaled, high),
        matched="as fast without it once the inputs are standardised: it is their scale",
    )
    return Claim(
        letter="a",
        title="it converges faster, perhaps more accurately",
        measured=f"steps to {high:.0%} validation accuracy, each at its best rate of a short sweep",
        gate=Check("against none", gate),
        controls=(control,),
        supported="faster than without it, standardised inputs or not",
        worse="slower than without it",
        same="no faster than without it, each at its own best rate",
        caveat=f"Test accuracy at own rates: {text(_points(*own))}"
        + (f"; processor seconds to {high:.0%}: {text(timed)}" if timed is not None else ""),
        beside=(
            (f"processor seconds to {high:.0%}, own rates", timed),
            (f"steps to {low:.0%}, own rates", _steps(*own, low)),
            (f"steps to {low:.0%}, article's rate", _steps(batch, none, low)),
            (f"steps to {high:.0%}, article's rate", _steps(batch, none, high)),
            ("test accuracy, own rates", _points(*own)),
        ),
    )


def _higher_rates(trained: Trained) -> Claim:
    both = ("adam", "sgd")

    def against(arm: str, optimizers: Sequence[str] = both) -> Paired | None:
        x, y = (readings.usable_rates(trained, of, optimizers) for of in ("batch", arm))
        found = ((seed, x[seed], y[seed]) for seed in x.keys() & y.keys())
        return readings.by_seed(found, "rates", RATE_MARGIN)

    def control(arm: str, name: str) -> Check:
        matched = f"higher than without it, but {name} allows as high ones"
        return Check(f"against {name}", against(arm), matched=matched)

    others = {"layer": "LayerNorm", "data_init": "an initialisation from data"}
    apart = ((of, arm) for of in both for arm in ("none", *others))
    return Claim(
        letter="b",
        title="it allows higher learning rates",
        measured=f"largest rate within {100 * readings.USABLE:g} points of the arm's best",
        gate=Check("against none", against("none")),
        controls=tuple(control(arm, name) for arm, name in others.items()),
        supported="higher rates than without it, and than its controls",
        worse="lower rates than without it",
        same="the same rates as without it",
        beside=tuple((f"{of}, against {arm}", against(arm, (of,))) for of, arm in apart),
        caveat="An arm that stands the highest rate of the sweep may stand higher ones",
    )


def _regularises(trained: Trained) -> Claim:
    batch, none, moving = (trained.article(arm) for arm in ("batch", "none", "moving"))
    dropped = {arm: trained.of("dropout", f"{arm}_dropout") for arm in ("none", "batch")}

    def few(x: str, y: str) -> Iterator[tuple[str, Paired | None]]:
        of_x, of_y = (trained.of("small", arm) or trained.of("ghost", arm) for arm in (x, y))
        for what, value in (("test accuracy", accuracy), ("gap", small_gap)):
            yield f"few images, {x} against {y}: {what}", _points(of_x, of_y, value)

    gap = Check(
        "gap against none",
        _points(batch, none, small_gap),
        matched="more accurate with no smaller gap: it fits better, which is not regularisation",
    )
    without_noise = Check(
        "test accuracy against moving statistics in training",
        _points(batch, moving),
        matched="as accurate with moving statistics in training: not by the noise of the batches",
    )
    against_dropout = Check(
        "test accuracy against dropout",
        _points(batch, dropped["none"]),
        wants="no worse",
        matched="more accurate than without it, but less than with dropout: no replacement",
    )
    return Claim(
        letter="c",
        title="it regularises and may replace dropout",
        measured="test accuracy at the article's rate, and the gap between train and test",
        gate=Check("test accuracy against none", _points(batch, none)),
        controls=(gap, without_noise, against_dropout),
        supported="more accurate on test images with a smaller gap, by the noise of the batches",
        worse="less accurate on test images than without it",
        same="as accurate on test images as without it",
        caveat="With few training images, where a regulariser should help most: "
        f"{text(next(few('batch', 'none'))[1])}",
        beside=(
            (
                "without the images of doubtful label",
                _points(batch, none, readings.at_the_end("test_accuracy_clean")),
            ),
            ("gap against moving statistics", _points(batch, moving, small_gap)),
            ("dropout without it", _points(dropped["none"], none)),
            ("dropout beside it", _points(dropped["batch"], batch)),
            *(row for y in ("none", "moving", "none_dropout") for row in few("batch", y)),
            *(row for x in ("batch_dropout", *GHOSTS) for row in few(x, "batch")),
        ),
    )


def _gradients(trained: Trained) -> Claim:
    depths = sorted({t.depth for t in trained.of("depth", "batch")})
    deepest = max(depths, default=1)
    values = {
        "at the start": lambda training, until: readings.imbalance(training, 0),
        "all steps": readings.imbalance,
        "variation over steps": lambda training, until: training.gradient_variation or None,
    }

    def against(arm: str, depth: int, value: str = "all steps") -> Paired | None:
        x, y = (trained.of("depth", of, depth=depth) for of in ("batch", arm))
        return pair(x, y, values[value], "ratio", GRADIENT_MARGIN)

    control = Check(
        "against He initialisation without it",
        against("he", deepest),
        matched="steadier than without it, but He initialisation does as well",
    )
    rows = itertools.product(depths, ("none", "he"), values)
    return Claim(
        letter="d",
        title="it keeps gradients stable",
        measured=f"factor between gradients of first and last of {deepest} hidden layers",
        gate=Check("against none", against("none", deepest)),
        controls=(control,),
        supported="gradients of the first layer stay closer to the last one's",
        worse="gradients of the first layer are further from the last one's than without it",
        same="gradients are as far apart as without it",
        beside=tuple((f"{d} layers, {v}, against {arm}", against(arm, d, v)) for d, arm, v in rows),
        caveat="With two layers there is hardly anything to keep; variation over the steps against "
        f"none: {text(against('none', deepest, 'variation over steps'))}",
    )


def _shift(trained: Trained) -> Claim:
    batch, none, noisy = (trained.article(arm) for arm in ("batch", "none", "noisy"))
    control = Check(
        f"none against noise after it, steps to {LEVELS[-1]:.0%}",
        _steps(none, noisy, LEVELS[-1]),
        wants="no worse",
        matched="less shift, but with noise after it there is more and it is still faster than "
        "none: the shift is not the cause",
        premise=_shifts(none, noisy, "moved"),
    )
    return Claim(
        letter="e",
        title="it controls internal covariate shift, and that is why it helps",
        measured="change of a layer's gradient by the update of the layers below it",
        gate=Check("against none", _shifts(batch, none, "gradient_change")),
        controls=(control,),
        supported="less shift than without it, and more shift takes its speed away",
        worse="more shift than without it",
        same="as much shift as without it",
        beside=(
            ("shift of inputs' means", _shifts(batch, none, "moved")),
            ("with noise: change of gradient", _shifts(noisy, none, "gradient_change")),
            ("with noise: steps against it", _steps(batch, noisy, LEVELS[-1])),
        ),
    )


def _own_layer(trained: Trained) -> Claim:
    own = trained.of("custom", "custom_batch")
    sizes = sorted({int(size) for t in own for size in t.accuracy_by_batch or ()}) or [1]

    def against(size: int) -> Paired | None:
        value = readings.accuracy_at(size)
        return pair(own, own, value, "points", ACCURACY_MARGIN, of_y=accuracy)

    return Claim(
        letter="f",
        title="a layer that normalises by the batch at inference serves as well",
        measured=f"test accuracy with batches of {sizes[0]} at inference",
        gate=Check("against moving statistics", against(sizes[0]), wants="no worse"),
        controls=(),
        supported="as accurate, one image at a time, as with moving statistics",
        worse="less accurate on few images at once, and an answer depends on the others",
        same="",
        beside=tuple((f"batches of {size}", against(size)) for size in sizes),
    )
