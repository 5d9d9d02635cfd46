"""The article's six claims about batch normalisation, and what decides each of them.

What was chosen before looking stands here and in `verdicts`: the measure that decides a claim, the
control that could explain it otherwise, levels and margins. The rest is shown beside and decides
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bnpipe.components.study.readings import (
    USABLE,
    Trained,
    Trainings,
    Value,
    accuracy,
    accuracy_at,
    by_seed,
    clean_accuracy,
    gradient_change,
    imbalance,
    imbalance_at_start,
    moved,
    pair,
    small_gap,
    steps_to,
    usable_rates,
    variation,
)
from bnpipe.components.study.results import Training
from bnpipe.components.study.statistics import Paired
from bnpipe.components.study.verdicts import Check, Claim

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
    return pair(x, y, steps_to(level), "steps", STEPS_MARGIN)


def _points(x: Trainings, y: Trainings, value: Value) -> Paired | None:
    return pair(x, y, value, "points", ACCURACY_MARGIN)


def claims_of(
    trainings: Sequence[Training], seconds: Mapping[str, float] | None = None
) -> list[Claim]:
    """The six claims with what was measured.

    Args:
        trainings: of a finished study.
        seconds: of a step, by arm, where they are known.
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
    beside: list[tuple[str, Paired | None]] = [
        (f"steps to {low:.0%}, own rates", _steps(*own, low)),
        (f"steps to {low:.0%}, article's rate", _steps(batch, none, low)),
        (f"steps to {high:.0%}, article's rate", _steps(batch, none, high)),
        ("test accuracy, own rates", _points(*own, accuracy)),
        ("test accuracy against standardised inputs", _points(batch, scaled, accuracy)),
    ]
    gate = _steps(*own, high)
    if gate is not None and {"batch", "none"} <= seconds.keys():
        x, y = (seconds[arm] for arm in ("batch", "none"))
        timed = replace(gate, x=gate.x * x, y=gate.y * y, cap=gate.cap * min(x, y))
        beside.append((f"seconds to {high:.0%}, own rates", timed))
    return Claim(
        "a",
        "it converges faster, perhaps more accurately",
        f"steps to {high:.0%} validation accuracy, each arm at its own best learning rate",
        Check("against none", gate),
        (
            Check(
                "against none on standardised inputs, article's rate",
                _steps(batch, scaled, high),
                matched="as fast without it once the inputs are standardised: "
                "it is the scale of the inputs",
            ),
        ),
        "faster than without it, standardised inputs or not",
        "slower than without it",
        "no faster than without it, each at its own best rate",
        tuple(beside),
    )


def _higher_rates(trained: Trained) -> Claim:
    both = ("adam", "sgd")

    def against(arm: str, optimizers: Sequence[str] = both) -> Paired | None:
        x, y = (usable_rates(trained, of, optimizers) for of in ("batch", arm))
        found = ((seed, x[seed], y[seed]) for seed in x.keys() & y.keys())
        return by_seed(found, "rates", RATE_MARGIN)

    others = {"layer": "LayerNorm", "data_init": "an initialisation from data"}
    present = [arm for arm in others if trained.of("sweep", arm)] or list(others)
    return Claim(
        "b",
        "it allows higher learning rates",
        f"largest rate within {100 * USABLE:g} points of the arm's best, Adam and SGD",
        Check("against none", against("none")),
        tuple(
            Check(
                f"against {others[arm]}",
                against(arm),
                matched=f"higher than without it, but {others[arm]} allows as high ones",
            )
            for arm in present
        ),
        "higher rates than without it, and than its controls",
        "lower rates than without it",
        "the same rates as without it",
        tuple(
            (f"{optimizer}, against {arm}", against(arm, (optimizer,)))
            for optimizer in both
            for arm in ("none", *present)
        ),
        "An arm that stands the highest rate of the sweep may stand higher ones",
    )


def _regularises(trained: Trained) -> Claim:
    batch, none, moving = (trained.article(arm) for arm in ("batch", "none", "moving"))
    arms = ("none", "batch", "moving", "none_dropout", "batch_dropout", *GHOSTS)
    small = {arm: trained.of("small", arm) or trained.of("ghost", arm) for arm in arms}
    dropped = {arm: trained.of("dropout", f"{arm}_dropout") for arm in ("none", "batch")}
    return Claim(
        "c",
        "it regularises and may replace dropout",
        "test accuracy at the article's rate, and the gap between train and test",
        Check("test accuracy against none", _points(batch, none, accuracy)),
        (
            Check(
                "gap against none",
                _points(batch, none, small_gap),
                matched="more accurate, but with no smaller gap: it fits better, which is not "
                "regularisation",
            ),
            Check(
                "test accuracy against moving statistics in training",
                _points(batch, moving, accuracy),
                matched="as accurate with moving statistics in training: "
                "it is not the noise of the batches",
            ),
        ),
        "more accurate on test images with a smaller gap, and it is the noise of the batches",
        "less accurate on test images than without it",
        "as accurate on test images as without it",
        (
            ("without the images of doubtful label", _points(batch, none, clean_accuracy)),
            ("gap against moving statistics", _points(batch, moving, small_gap)),
            ("dropout without it", _points(dropped["none"], none, accuracy)),
            ("dropout beside it", _points(dropped["batch"], batch, accuracy)),
            ("it against dropout", _points(batch, dropped["none"], accuracy)),
            *(
                (f"few images, {name} against {other}: {what}", _points(small[arm], y, value))
                for name, arm, other, y in (
                    ("it", "batch", "none", small["none"]),
                    ("it", "batch", "moving statistics", small["moving"]),
                    ("it", "batch", "dropout", small["none_dropout"]),
                    ("dropout beside it", "batch_dropout", "it", small["batch"]),
                    *((f"{ghost}", ghost, "it", small["batch"]) for ghost in GHOSTS),
                )
                for what, value in (("test accuracy", accuracy), ("gap", small_gap))
            ),
        ),
    )


def _gradients(trained: Trained) -> Claim:
    depths = sorted({t.depth for t in trained.of("depth", "batch")})
    deepest = max(depths, default=1)

    def against(arm: str, depth: int, value: Value) -> Paired | None:
        x, y = (trained.of("depth", of, depth=depth) for of in ("batch", arm))
        return pair(x, y, value, "ratio", GRADIENT_MARGIN)

    return Claim(
        "d",
        "it keeps gradients stable",
        f"factor between the gradients of first and last layer, {deepest} hidden layers, all steps",
        Check("against none", against("none", deepest, imbalance)),
        (
            Check(
                "against He initialisation without it",
                against("he", deepest, imbalance),
                matched="steadier than without it, but He initialisation does as well",
            ),
        ),
        "gradients of the first layer stay closer to the last one's",
        "gradients of the first layer are further from the last one's than without it",
        "gradients are as far apart as without it",
        tuple(
            (f"{depth} layers, {name}, against {arm}", against(arm, depth, value))
            for depth in depths
            for arm in ("none", "he")
            for name, value in (
                ("at the start", imbalance_at_start),
                ("all steps", imbalance),
                ("variation over steps", variation),
            )
        ),
        "With two layers there is hardly anything to keep",
    )


def _shift(trained: Trained) -> Claim:
    batch, none, noisy = (trained.article(arm) for arm in ("batch", "none", "noisy"))
    return Claim(
        "e",
        "it controls internal covariate shift, and that is why it helps",
        "change of a layer's gradient by the update of the layers below it",
        Check("against none", pair(batch, none, gradient_change, "ratio", SHIFT_MARGIN)),
        (
            Check(
                "none against noise after it, steps to 97%",
                _steps(none, noisy, LEVELS[-1]),
                wants="no worse",
                matched="less shift, but with noise after it there is more and it is still "
                "faster than none: the shift is not the cause",
                premise=pair(none, noisy, moved, "ratio", SHIFT_MARGIN),
            ),
        ),
        "less shift than without it, and more shift takes its speed away",
        "more shift than without it",
        "as much shift as without it",
        (
            ("shift of inputs' means", pair(batch, none, moved, "ratio", SHIFT_MARGIN)),
            (
                "with noise: change of gradient",
                pair(noisy, none, gradient_change, "ratio", SHIFT_MARGIN),
            ),
            ("with noise: steps to 97% against it", _steps(batch, noisy, LEVELS[-1])),
        ),
    )


def _own_layer(trained: Trained) -> Claim:
    own = trained.of("custom", "custom_batch")
    sizes = sorted({int(size) for t in own for size in t.accuracy_by_batch or ()})
    moving = own if any(t.test_accuracy is not None for t in own) else trained.article("batch")

    def against(size: int) -> Paired | None:
        return pair(own, moving, accuracy_at(size), "points", ACCURACY_MARGIN, of_y=accuracy)

    smallest = min(sizes, default=1)
    return Claim(
        "f",
        "a layer that normalises by the batch at inference serves as well",
        f"test accuracy with batches of {smallest} at inference",
        Check("against moving statistics", against(smallest), wants="no worse"),
        (),
        "as accurate, one image at a time, as with moving statistics",
        "less accurate on few images at once, and an answer depends on the others",
        "",
        tuple((f"batches of {size}", against(size)) for size in sizes),
    )
