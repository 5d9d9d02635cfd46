"""Studies that nobody trained: numbers drawn around what a test says, for tests of what reads them.

Nothing here is a result about batch normalisation.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from bnpipe.components.study.results import Experiment, Shift, Training

STEPS = 17_190
CURVE = (*range(25, 1700, 25), *range(1719, STEPS + 1, 573))
RATES = tuple(float(f"{rate:.2g}") for rate in np.geomspace(1e-4, 1e-1, 8))
# By arm: test accuracy, gap, steps to 97 %, largest usable rate, factor between gradients, shift of
# means, change of gradients. Arms that are not here are like `none`.
NONE: dict[str, Any] = {
    "accuracy": 0.9746,
    "gap": 0.015,
    "steps": 6000.0,
    "rate": RATES[3],
    "imbalance": 8.0,
    "moved": 0.2,
    "change": 0.5,
}
BATCH = {"accuracy": 0.9775, "gap": 0.008, "steps": 3000.0, "rate": RATES[6]}
ARMS: dict[str, dict[str, Any]] = {"batch": {**BATCH, "imbalance": 2.0, "change": 0.3}}
DEPTHS = (2, 8, 20)


def short(epochs: int) -> dict[str, Any]:
    """The steps of fewer epochs, and the curve so far."""
    steps = STEPS // 10 * epochs
    return {"steps": steps, "curve_steps": tuple(step for step in CURVE if step <= steps)}


class Synthetic:
    """Draws trainings; `arms` overrides what is written above, by arm."""

    def __init__(self, arms: dict[str, dict[str, Any]] | None = None, seed: int = 0) -> None:
        self._arms, self._rng = {**ARMS, **(arms or {})}, np.random.default_rng(seed)

    def training(
        self, experiment: Experiment, arm: str, seed: int, *, seen: bool = True, **fields: Any
    ) -> Training:
        of = {**NONE, **self._arms.get(arm, {})}
        noise = self._rng.normal(size=6)
        test = float(np.clip(of["accuracy"] + 0.0009 * noise[0], 0, 1))
        to_97 = of["steps"] * np.exp(0.15 * noise[1])
        grid = fields.get("curve_steps", CURVE)
        curve = 0.98 - 0.01 * (to_97 / np.array(grid)) ** 0.5
        ratio = of["imbalance"] * np.exp(0.1 * noise[2])
        moved, change = of["moved"] * np.exp(0.1 * noise[3]), of["change"] * np.exp(0.1 * noise[4])
        shift = Shift(
            steps=(100, 200),
            **dict.fromkeys(("moved", "moved_15", "moved_50", "moved_85"), (moved, moved / 2)),
            gradient_change=(change, change / 2),
            gradient_cosine=(0.9, 0.95),
        )
        values: dict[str, Any] = {
            "train_images": 55_004,
            "steps": STEPS,
            "curve_steps": grid,
            "curve_accuracy": tuple(curve.clip(0, 1).tolist()),
            "validation_accuracy": test,
            "train_accuracy": min(test + of["gap"], 1.0),
            "test_accuracy": test if seen else None,
            "test_accuracy_clean": test if seen else None,
            "gradient_steps": (0, 100),
            "gradient_ratio": (1 / ratio, 1 / ratio**0.5),
            "gradient_norms": (1 / ratio, 1.0),
            "gradient_variation": 0.3,
            "shift": shift,
        }
        return Training(experiment=experiment, arm=arm, seed=seed, **{**values, **fields})

    def study(self, seeds: int = 30, controls: int = 20, few: int = 10) -> Iterator[Training]:
        yield from (self.training("main", a, s) for a in ("none", "batch") for s in range(seeds))
        yield from (self.training("control", "moving", s) for s in range(controls))
        for a in ("standardized", "layer", "noisy", "data_init"):
            yield from (self.training("control", a, s, **short(4)) for s in range(controls))
        for a, rate in (("none", 2e-3), ("batch", 3e-3)):
            own = {"learning_rate": rate, **short(5)}
            yield from (self.training("own_rate", a, s, **own) for s in range(controls))
        yield from self._sweep()
        fewer: dict[str, Any] = {"train_images": 1000}
        for a in ("none", "batch", "moving", "none_dropout", "batch_dropout"):
            yield from (self.training("small", a, s, **fewer) for s in range(few))
        for size in (8, 16, 32):
            yield from (self.training("ghost", f"ghost_{size}", s, **fewer) for s in range(few))
        for a in ("none_dropout", "batch_dropout"):
            yield from (self.training("dropout", a, s) for s in range(few))
        for depth in DEPTHS:
            for a in ("none", "batch", "he"):
                hidden = {"depth": depth, "gradient_norms": (1.0,) * depth}
                yield from (self.training("depth", a, s, seen=False, **hidden) for s in range(few))
        by_batch = {"1": 0.1, "2": 0.5, "8": 0.92, "32": 0.967, "256": 0.9755}
        for s in range(few):
            yield self.training("custom", "custom_batch", s, accuracy_by_batch=by_batch)

    def _sweep(self) -> Iterator[Training]:
        optimizers: tuple[Literal["adam", "sgd"], ...] = ("adam", "sgd")
        for i, optimizer in enumerate(optimizers):
            for a in ("none", "batch", "layer", "data_init"):
                top = {**NONE, **self._arms.get(a, {})}["rate"]
                for rate in RATES:
                    accuracy = 0.97 if rate <= top else 0.90
                    for s in range(4 * i, 4 * i + 4):
                        yield self.training(
                            *("sweep", a, s),
                            seen=False,
                            optimizer=optimizer,
                            learning_rate=rate,
                            validation_accuracy=accuracy,
                        )
