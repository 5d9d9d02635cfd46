"""Checks against the data that the champion was trained on.

Two levels that follow from both sample sizes: a distance that chance alone hardly makes is warned
of, one that is shown to be larger than tolerated blocks. The error level is shared among the three
checks, and by the image statistics once more (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from components.example_validator.findings import Evidence, Finding, graded
from data import drift
from data.image_statistics import STATISTICS
from data.statistics import SplitSummary

CHECKS = 3
"""How many checks share the error level."""

_TRAIN = "train"


def label_drift(evidence: Evidence) -> Iterator[Finding]:
    """No class has another share than in the champion's data."""
    if evidence.champion is None:
        return
    counts, others = _classes(evidence.splits[_TRAIN], evidence.champion)
    value = float(drift.infinity_distance(counts, others))
    noise = float(drift.infinity_noise(counts, others, evidence.params.level / CHECKS))
    bound = float(drift.exceeds(noise, evidence.params.label_drift_tolerance))
    now, before = drift.shares(counts), drift.shares(others)
    label = int(np.argmax(np.abs(now - before)))
    name = evidence.label(label) if label < evidence.info.classes else f"label {label}"
    sentence = (
        f"{name} makes up {now[label]:.1%} of train, {before[label]:.1%} of the champion's data: "
        + _judged(value, noise, bound)
    )
    level = graded(value, noise, bound)
    yield Finding(_TRAIN, level, value, bound, sentence, "COMPARATOR_L_INFTY_HIGH", "label")


def label_divergence(evidence: Evidence) -> Iterator[Finding]:
    """The shares of all classes together are those of the champion's data."""
    if evidence.champion is None:
        return
    counts, others = _classes(evidence.splits[_TRAIN], evidence.champion)
    value = float(drift.divergence(counts, others))
    noise = float(drift.divergence_noise(counts, others, evidence.params.level / CHECKS))
    tolerance = evidence.params.label_divergence_tolerance
    bound = float(drift.exceeds_divergence(noise, tolerance))
    sentence = (
        "Jensen-Shannon divergence of the shares of classes from the champion's data: "
        + _judged(value, noise, bound)
    )
    code = "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH"
    yield Finding(_TRAIN, graded(value, noise, bound), value, bound, sentence, code, "label")


def image_drift(evidence: Evidence) -> Iterator[Finding]:
    """Every image statistic is distributed as in the champion's data."""
    champion, train = evidence.champion, evidence.splits[_TRAIN]
    if champion is None or not train.drawn or not champion.drawn:
        return
    level = evidence.params.level / CHECKS / len(STATISTICS)
    values = drift.ks_distance(train.histograms, champion.histograms)
    noises = drift.ks_noise(train.histograms, champion.histograms, level)
    bounds = drift.exceeds(noises, evidence.params.image_drift_tolerance)
    for row in np.argsort(-values, kind="stable"):  # the worst first: it speaks for the check
        statistic = STATISTICS[row]
        value, noise, bound = float(values[row]), float(noises[row]), float(bounds[row])
        now, before = (statistic.value(int(s.sums[row]) / s.drawn) for s in (train, champion))
        sentence = (
            f"{statistic.name} ({statistic.meaning}) has mean {now:.3g}, {before:.3g} in the "
            f"champion's data: {_judged(value, noise, bound)}"
        )
        found = graded(value, noise, bound)
        yield Finding(_TRAIN, found, value, bound, sentence, feature=statistic.name)


def _judged(value: float, noise: float, bound: float) -> str:
    return f"distance {value:.3g}, by chance up to {noise:.3g}, blocks above {bound:.3g}"


def _classes(
    train: SplitSummary, champion: SplitSummary
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The class counts of both, padded to the same number of classes."""
    number = max(len(train.classes), len(champion.classes))
    counts, others = (np.pad(s.classes, (0, number - len(s.classes))) for s in (train, champion))
    return counts, others
