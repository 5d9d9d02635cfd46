"""Checks of one part of the data against another: they notice that what comes in has changed.

Every part, each split of the data set and of each span, is compared with the data that the champion
was trained on, and with what the data set itself brought to train, which is there on the first run
too. Two levels that follow from both sample sizes: a distance above what chance hardly makes is
warned of, one that is shown to be larger than tolerated blocks. The error level is shared among
these checks, by the comparisons that each makes, and by the image statistics (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bnpipe.components.example_validator import drift
from bnpipe.components.example_validator.profile import Observation, Profile, Share, graded
from bnpipe.data.statistics.image_statistics import BINS, STATISTICS, STEPS
from bnpipe.data.statistics.summary import SplitSummary

CHECKS = 5
"""Number of checks that share the error level."""

WORTH_A_WORD = 0.2
"""The part of what is tolerated that is not even warned of: large samples of one source differ by
more than chance makes. MNIST's test digits, of other writers than those of train, have slants at a
distance of 0.033, where chance makes 0.024."""

_TRAIN = "train"


class Comparison(NamedTuple):
    """A part, and what it is compared with.

    Attributes:
        part: what is judged.
        against: `champion` or `train`.
        name: what it is compared with, in words.
        reference: the statistics of that.
    """

    part: Share
    against: str
    name: str
    reference: SplitSummary


def comparisons(profile: Profile) -> list[Comparison]:
    """Every part against the champion's data, and against the data set's own train records."""
    made: list[Comparison] = []
    if profile.champion is not None:
        named = ("champion", "the champion's data", profile.champion)
        made.extend(Comparison(part, *named) for part in profile.parts)
    base = profile.base(_TRAIN)
    if base is not None:
        others = (part for part in profile.parts if part is not base)
        made.extend(Comparison(part, _TRAIN, base.name, base.summary) for part in others)
    return made


def label_drift(profile: Profile) -> Iterator[Observation]:
    """No class has another share than in the reference."""
    compared, counts, others = _classes(profile)
    values = drift.infinity_distance(counts, others)
    noises = drift.infinity_noise(counts, others, _level(profile, len(compared)))
    tolerance = profile.params.label_drift_tolerance
    words = drift.exceeds(noises, WORTH_A_WORD * tolerance)
    bounds = drift.exceeds(noises, tolerance)
    now, before = drift.shares(counts), drift.shares(others)
    labels = np.abs(now - before).argmax(axis=-1)
    for row in _worst_first(values / bounds):
        comparison, label = compared[row], int(labels[row])
        name = profile.label(label) if label < profile.info.classes else f"label {label}"
        measured = (
            f"{name} makes up {now[row, label]:.1%} of {comparison.part.name}, "
            f"{before[row, label]:.1%} of {comparison.name}: "
        )
        numbers = values[row], words[row], bounds[row]
        yield _observation(comparison, *numbers, measured, "COMPARATOR_L_INFTY_HIGH", "label")


def label_divergence(profile: Profile) -> Iterator[Observation]:
    """The shares of all classes together are those of the reference."""
    compared, counts, others = _classes(profile)
    values = drift.divergence(counts, others)
    noises = drift.divergence_noise(counts, others, _level(profile, len(compared)))
    tolerance = profile.params.label_divergence_tolerance
    # Of a divergence the square root is the distance, so a fifth of that is a 25th.
    words = drift.exceeds_divergence(noises, WORTH_A_WORD**2 * tolerance)
    bounds = drift.exceeds_divergence(noises, tolerance)
    code = "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH"
    for row in _worst_first(values / bounds):
        measured = (
            f"Jensen-Shannon divergence of the shares of classes in {compared[row].part.name} "
            f"from {compared[row].name}: "
        )
        numbers = values[row], words[row], bounds[row]
        yield _observation(compared[row], *numbers, measured, code, "label")


def image_drift(profile: Profile) -> Iterator[Observation]:
    """Every image statistic is distributed as in the reference."""
    compared = _drawn(profile)
    level = _level(profile, len(compared)) / len(STATISTICS)
    tolerance = profile.params.image_drift_tolerance
    sides = [(c.part.summary.histograms, c.reference.histograms) for c in compared]
    values = _table([drift.ks_distance(*both) for both in sides])
    noises = _table([drift.ks_noise(*both, level) for both in sides])
    words = drift.exceeds(noises, WORTH_A_WORD * tolerance)
    bounds = drift.exceeds(noises, tolerance)
    for place in _worth_telling(values, words, bounds):
        comparison, statistic = compared[place[0]], STATISTICS[place[1]]
        now, before = (_mean(s, place[1]) for s in (comparison.part.summary, comparison.reference))
        measured = (
            f"{statistic.name} ({statistic.meaning}) has mean {now:.3g} in {comparison.part.name}, "
            f"{before:.3g} in {comparison.name}: "
        )
        numbers = values[place], words[place], bounds[place]
        yield _observation(comparison, *numbers, measured, feature=statistic.name)


def image_outliers(profile: Profile) -> Iterator[Observation]:
    """Few images lie outside all that the reference has shown, by any image statistic.

    That sees damage to a few images of many, which moves a distribution by no more than their
    share. A small reference has shown little, so that many lie outside by chance.
    """
    compared = _drawn(profile)
    level = _level(profile, len(compared)) / len(STATISTICS)
    tolerated = profile.params.max_outlier_share
    sizes = [(c.part.summary.drawn, c.reference.drawn) for c in compared]
    noises = [drift.outside_noise(*both, level) for both in sizes]
    allowed = [drift.allowed_count(size, tolerated, level) for size, _ in sizes]
    ends = _table([_outside(c.part.summary, c.reference) for c in compared])
    below, above = ends[::2], ends[1::2]
    values = below + above
    words = np.broadcast_to(np.array(noises).reshape(-1, 1), values.shape)
    bounds = words + np.array(allowed).reshape(-1, 1)
    for place in _worth_telling(values, words, bounds):
        comparison, statistic = compared[place[0]], STATISTICS[place[1]]
        reference, number, bound = comparison.reference, int(values[place]), int(bounds[place])
        low, high = (statistic.value(int(e[place[1]])) for e in (reference.low, reference.high))
        sentence = (
            f"{number:,} of {sizes[place[0]][0]:,} images in {comparison.part.name} have "
            f"{statistic.name} ({statistic.meaning}) outside {low:.3g} to {high:.3g}, all that "
            f"{comparison.name} has: by chance up to {words[place]:,}, blocks above {bound:,}"
        )
        small = below[place] > above[place]
        code = "FLOAT_TYPE_SMALL_FLOAT" if small else "FLOAT_TYPE_BIG_FLOAT"
        grade = graded(number, int(words[place]), bound)
        split, against = comparison.part.split, comparison.against
        yield Observation(split, grade, number, bound, sentence, code, statistic.name, against)


def class_statistics(profile: Profile) -> Iterator[Observation]:
    """The images of each class look like those of this class in the reference.

    That sees labels that do not belong to their images, of which no share of classes and no
    distribution over all images says anything.
    """
    compared = [(c, *by_class) for c in _drawn(profile) for by_class in _by_class(c)]
    level = _level(profile, len(compared)) / len(STATISTICS)
    sides = [drift.class_distances(now, before, level) for _, now, before in compared]
    values = _table([np.sqrt(parts.sum(axis=0)) for parts, _ in sides])
    noises = _table([noise for _, noise in sides])
    tolerance = profile.params.class_statistics_tolerance
    words, bounds = drift.exceeds(noises, tolerance / 2), drift.exceeds(noises, tolerance)
    for place in _worth_telling(values, words, bounds):
        row, column = place
        (comparison, now, before), statistic = compared[row], STATISTICS[column]
        label = int(sides[row][0][:, column].argmax())
        mean, other = (
            statistic.value(s.sums[label, column] / s.counts[label]) for s in (now, before)
        )
        measured = (
            f"of images by label, most of all {profile.label(label)}, {statistic.name} "
            f"({statistic.meaning}) has mean {mean:.3g} in {comparison.part.name}, "
            f"{other:.3g} in {comparison.name}: "
        )
        numbers = values[place], words[place], bounds[place]
        yield _observation(comparison, *numbers, measured, feature="label")


def _by_class(comparison: Comparison) -> Iterator[tuple[drift.Moments, drift.Moments]]:
    """The image statistics of both sides by class, if they can be compared.

    They cannot where statistics were written before they were kept by class.
    """
    sides = comparison.part.summary, comparison.reference
    classes = min(len(side.class_drawn) for side in sides)
    now, before = (
        drift.Moments(*(a[:classes] for a in (s.class_drawn, s.class_steps, s.class_squares)))
        for s in sides
    )
    if np.any((now.counts > 0) & (before.counts > 1)):
        yield now, before


def _outside(summary: SplitSummary, reference: SplitSummary) -> npt.NDArray[np.int64]:
    """int64[2, S]: images in the bins below and above those that the reference reaches."""
    bins = np.arange(BINS)
    low, high = (np.minimum(e * BINS // STEPS, BINS - 1) for e in (reference.low, reference.high))
    beyond = bins < low[:, None], bins > high[:, None]
    return np.stack([(summary.histograms * there).sum(axis=1) for there in beyond])


def _table(rows: list[Any]) -> npt.NDArray[Any]:
    """Rows of one number per image statistic as one array; there may be none."""
    return np.array(rows).reshape(-1, len(STATISTICS))


def _worth_telling(
    values: npt.NDArray[Any], words: npt.NDArray[Any], bounds: npt.NDArray[Any]
) -> Iterator[tuple[int, int]]:
    """The places in a table of the worst value and of all that are not harmless, worst first."""
    order = np.argsort(-values / np.maximum(bounds, 1e-9), axis=None, kind="stable")
    for number, place in enumerate(order.tolist()):
        at = divmod(place, values.shape[1])
        if not number or values[at] > words[at]:
            yield at


def _level(profile: Profile, compared: int) -> float:
    return profile.params.level / CHECKS / max(compared, 1)


def _classes(
    profile: Profile,
) -> tuple[list[Comparison], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The comparisons, and the class counts of both sides as int64[C, K]."""
    pairs = [(c, c.part.summary.classes, c.reference.classes) for c in comparisons(profile)]
    pairs = [(c, now, before) for c, now, before in pairs if now.any() and before.any()]
    number = max([profile.info.classes, *(len(before) for _, _, before in pairs)])
    counts, others = np.zeros((2, len(pairs), number), np.int64)
    for row, (_, now, before) in enumerate(pairs):
        counts[row, : len(now)] = now
        others[row, : len(before)] = before
    return [c for c, _, _ in pairs], counts, others


def _drawn(profile: Profile) -> list[Comparison]:
    """The comparisons of which both sides have images that are not blank."""
    return [c for c in comparisons(profile) if c.part.summary.drawn and c.reference.drawn]


def _mean(summary: SplitSummary, row: int) -> float:
    return STATISTICS[row].value(int(summary.sums[row]) / summary.drawn)


def _worst_first(severity: npt.NDArray[np.float64]) -> Iterable[int]:
    """The first observation of those that are equally bad speaks for its check."""
    return np.argsort(-severity, kind="stable").tolist()


def _observation(
    comparison: Comparison,
    value: float,
    word: float,
    bound: float,
    measured: str,
    code: str = "CUSTOM_VALIDATION",
    feature: str = "image",
) -> Observation:
    sentence = f"{measured}distance {value:.3g}, warns above {word:.3g}, blocks above {bound:.3g}"
    split, against = comparison.part.split, comparison.against
    grade, value, bound = graded(value, word, bound), float(value), float(bound)
    return Observation(split, grade, value, bound, sentence, code, feature, against)
