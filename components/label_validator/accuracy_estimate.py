"""How good a model is on data without labels: from how sure it is, once that is calibrated.

The mean confidence, corrected by what it is off on the evaluated split: difference of confidences,
Guillory et al. 2021, https://arxiv.org/abs/2107.03315. On MNIST with other shares of the classes it
was off by 0.0055 at worst, average thresholded confidence (Garg et al. 2022) by 0.0075, which is
better only where both are far off; and its interval follows from its terms. It holds as long as the
model is as sure as it is right, which other images may end (inverted strokes: 0.91 for a true
0.07): `answer_drift` tells. All figures: `tests/benchmarks/bench_answers.py --models 4`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from bnpipe.components.network.calibration import Floats, at_temperature

LEAST = 100
"""With fewer answers nothing is estimated."""
_CONFIDENCE = 0.99


@dataclass(frozen=True)
class AccuracyEstimate:
    """The share of right answers in a sample, with a 99 % interval.

    Attributes:
        accuracy: the estimate.
        low, high: the interval.
        before: the accuracy on the reference.
    """

    accuracy: float
    low: float
    high: float
    before: float


def estimate_accuracy(
    reference: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    sample: npt.NDArray[np.float32],
    temperature: float,
    error: float = 0.0,
) -> AccuracyEstimate:
    """Estimate how many of a sample's answers are right.

    Args:
        reference: a model's answers float32[N, K] to data with labels that it was not trained on.
        labels: int64[N], the true classes.
        sample: its answers float32[n, K] to other data.
        temperature: what its logits are to be divided by; 1 if the answers are calibrated.
        error: standard error of the logarithm of the temperature, as far as that is known.

    Raises:
        ValueError: one of them is empty.
    """
    if not (len(reference) and len(sample)):
        raise ValueError(f"expected answers: {len(reference)} and {len(sample)}")
    right = reference.argmax(axis=1) == labels

    def terms(divisor: float) -> tuple[Floats, Floats]:
        before, now = (at_temperature(p, divisor).max(axis=1) for p in (reference, sample))
        return now, right - before

    confidence, excess = terms(temperature)
    accuracy = float(confidence.mean() + excess.mean())
    # Given how sure it is, every answer is right or wrong by itself: a sum of Bernoulli variables.
    # What calibration is off by is a mean over the reference. Both are means of hundreds of terms,
    # so they are nearly normal, and of different images, so their variances add up.
    variance = np.mean(confidence * (1 - confidence)) / len(sample) + excess.var() / len(reference)
    z = float(stats.norm.ppf((1 + _CONFIDENCE) / 2))
    # The temperature is from other images again. What it moves the estimate by is far from linear,
    # so its ends are moved by what the ends of its own interval give, root of the sum of squares
    # on each side (Zou & Donner 2008); a derivative covered less with wider intervals.
    ends = [temperature * np.exp(sign * z * error) for sign in (-1, 1)] if error else []
    moved = [sum(float(term.mean()) for term in terms(end)) - accuracy for end in ends]
    below, above = (np.hypot(z * np.sqrt(variance), end([0.0, *moved])) for end in (min, max))
    shown = np.clip([accuracy, accuracy - below, accuracy + above], 0.0, 1.0)
    return AccuracyEstimate(*map(float, (*shown, right.mean())))
