"""Drift that the model sees, and how good it is without labels, on MNIST.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_answers.py --models 2

Networks of the product are trained on 45,000 of the 70,000 images; 10,000 others, drawn by their
seed, are what each is judged on, and windows come from 10,000 more. Of windows without drift, whose
reference is drawn anew for each, so many are drift, with a bound for their share; of windows of 500
spoiled images so many; and of windows of 2,000 the estimated accuracy is held against the true one.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bnpipe.components.label_validator.answer_drift import LEVEL, answer_drift
from tests.components.label_validator.mnist_answers import (
    Answers,
    answers,
    blurred,
    elastic,
    noisy,
    turned,
)

ASKED = {  # power of at least 90 % at n = 500
    "blur, sigma 1": blurred(1.0),
    "elastic, alpha 20": elastic(20.0),
    "inverted strokes": lambda images: 255 - images,
    "rotation of 15": turned(15),
}
SPOILS = {
    **ASKED,
    "blur, sigma 0.75": blurred(0.75),
    "blur, sigma 1.5": blurred(1.5),
    "elastic, alpha 8": elastic(8.0),
    **{f"rotation of {degrees}": turned(degrees) for degrees in (2, 5, 10, 20, 30, 45)},
    **{f"noise of {deviation}": noisy(deviation) for deviation in (10, 20, 40, 80)},
}
WIDTHS = (8, 11, 25, 13, 10, 19)
WINDOWS, NULL_WINDOWS, SEEDS, ALLOWED = 100, 2000, 20, 0.0027


def main() -> None:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=2, help="networks to train, at most 20")
    count = min(parser.parse_args().models, SEEDS)
    if "BNPIPE_ARCHIVES" not in os.environ:
        parser.error("BNPIPE_ARCHIVES is not set: it names the folder with MNIST's four archives")
    archives = Path(os.environ["BNPIPE_ARCHIVES"])
    models = [answers(archives, seed, SPOILS) for seed in range(count)]
    _say(f"{count} networks, temperatures {', '.join(f'{m.temperature:.3f}' for m in models)}")
    _drift(models)
    _estimates(models)


def _drift(models: list[Answers]) -> None:
    rng = np.random.default_rng(0)
    _say(f"\nfalse alarms at p < {LEVEL} (a share of {ALLOWED:.2%} is allowed)")
    for size in (500, 2000):
        drawn = [models[i % len(models)].null_window(rng, size) for i in range(NULL_WINDOWS)]
        alarms = int(np.sum(np.array(drawn) < LEVEL))
        bound = stats.beta.ppf(0.95, alarms + 1, NULL_WINDOWS - alarms)
        _say(f"  n = {size:<6}{alarms} of {NULL_WINDOWS} windows, 95 % at most {bound:.2%}")
    _say(f"\npower in {WINDOWS} windows of 500")
    for name in SPOILS:
        seen = 0
        for i in range(WINDOWS):
            model = models[i % len(models)]
            seen += answer_drift(model.reference, model.drawn(rng, name, 500)[0]).drifted
        _say(f"  {name:<20}{seen / WINDOWS:>6.0%}{'   (asked: 90 %)' if name in ASKED else ''}")


def _estimates(models: list[Answers]) -> None:
    _say(f"\naccuracy of 2,000 in {SEEDS} windows, one per seed")
    _say("  worst error: of the estimate (of the mean confidence, of the share above a threshold)")
    heads = ("true", "estimated", "worst error", "in interval", "drift", "outside, unwarned")
    _say(f"  {'':<18}" + "".join(f"{h:>{w}}" for h, w in zip(heads, WIDTHS, strict=True)))
    outside = unwarned = 0
    for name in ("nothing", "label shift", *SPOILS):
        rngs = [np.random.default_rng(seed) for seed in range(SEEDS)]
        drawn = [models[i % len(models)].window(rngs[i], name, 2000) for i in range(SEEDS)]
        fields = ("accuracy", "estimate", "confidence", "thresholded")
        true, *ways = (np.array([getattr(w, field) for w in drawn]) for field in fields)
        worst = [np.abs(true - way).max() for way in ways]
        missed = [w for w in drawn if not w.covered]
        silent = sum(not w.warned for w in missed)
        outside, unwarned = outside + len(missed), unwarned + silent
        cells = (
            f"{true.mean():.4f}",
            f"{ways[0].mean():.4f}",
            f"{worst[0]:.4f} ({worst[1]:.4f}, {worst[2]:.4f})",
            f"{SEEDS - len(missed)} of {SEEDS}",
            f"{sum(w.warned for w in drawn)} of {SEEDS}",
            f"{silent} of {len(missed)}",
        )
        _say(f"  {name:<18}" + "".join(f"{c:>{w}}" for c, w in zip(cells, WIDTHS, strict=True)))
    warned = 1 - unwarned / max(outside, 1)
    _say(f"  drift was seen in {warned:.1%} of {outside} windows outside (asked: 95 %)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
