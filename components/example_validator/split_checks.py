"""Checks of a split as a whole: how many, of each class, how often the same image."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import special

from components.example_validator.findings import Evidence, Finding, graded

_TRAIN = "train"
_NAMED = 5
"""How many images of a finding are named."""
_LEAKS = {"test": ("train", "validation"), "validation": ("train",)}
"""Splits that must not share an image with those that come before them."""


def allowed_count(size: int, share: float, level: float) -> int:
    """How many of `size` are seen by chance, with probability `level`, if the true share is this.

    The upper quantile of the binomial distribution: a tolerated share is a statement about the
    source of the data, and a small sample of a good source may hold more.
    """
    if not size or share <= 0.0:
        return 0
    if share >= 1.0:
        return size
    return max(0, math.ceil(float(special.bdtrik(1.0 - level, size, share))))


def least_count(size: int, share: float, level: float) -> int:
    """How few of `size` are seen by chance if the true share is this: the lower quantile."""
    return size - allowed_count(size, 1.0 - share, level)


def classes(evidence: Evidence) -> Iterator[Finding]:
    """Every class has enough examples.

    In train also relative to equally large classes. In the other splits a class may have too few
    if that is what chance makes of its share in train; it is warned of then.
    """
    params = evidence.params
    number = evidence.info.classes
    train = evidence.splits[_TRAIN].classes
    for split, summary in evidence.splits.items():
        size = int(summary.classes.sum())
        if split == _TRAIN:
            few = least_count(size, params.min_class_share / number, params.level / number)
            bounds = np.full(number, max(params.min_class_examples, few))
            warn = bounds
        else:
            shares = train / max(int(train.sum()), 1)
            chance = np.array([least_count(size, s, params.level / number) for s in shares])
            bounds = np.minimum(params.min_class_examples, chance)
            warn = np.full(number, params.min_class_examples)
        yield _fewest(evidence, split, summary.classes, bounds, warn)


def _fewest(
    evidence: Evidence,
    split: str,
    counts: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    warn: npt.NDArray[np.int64],
) -> Finding:
    """The finding about the class that is furthest below its bound."""
    label = int(np.argmin(counts - np.maximum(bounds, warn)))
    count, bound = int(counts[label]), int(bounds[label])
    examples = f"{count:,} examples" if count else "no examples"
    sentence = f"{evidence.label(label)} has {examples} in {split}"
    if count and count < bound:
        sentence += f", expected {bound:,} or more"
    level = graded(-count, -int(warn[label]), -bound)
    code = "CUSTOM_VALIDATION" if count else "FEATURE_TYPE_LOW_UNIQUE"
    return Finding(split, level, count, bound, sentence, code, "label")


def count(evidence: Evidence) -> Iterator[Finding]:
    """There are enough examples, and about as many as the champion was trained on."""
    params, champion = evidence.params, evidence.champion
    for split, summary in evidence.splits.items():
        size = summary.records
        bound = params.min_examples if split == _TRAIN else 1
        sentence = f"{split} has {size:,} examples, expected {bound:,} or more"
        level = graded(-size, -bound, -bound)
        yield Finding(split, level, size, bound, sentence, "DATASET_LOW_NUM_EXAMPLES", "")
    if champion is None or not champion.records:
        return
    size = evidence.splits[_TRAIN].records
    ratio = size / champion.records
    low, high = params.min_count_ratio, params.max_count_ratio
    told = f"train has {size:,} examples, the champion's had {champion.records:,}"
    if ratio <= 1.0:
        # Two thirds of the way down to what blocks, a shrinking split is worth a word.
        level = graded(-ratio, -(1.0 - 2.0 / 3.0 * (1.0 - low)), -low)
        sentence = f"{told}, expected {low:g} times as many or more"
        yield Finding(_TRAIN, level, ratio, low, sentence, "COMPARATOR_LOW_NUM_EXAMPLES", "")
    else:
        sentence = f"{told}, expected {high:g} times as many at most"
        level = graded(ratio, high, high)
        yield Finding(_TRAIN, level, ratio, high, sentence, "COMPARATOR_HIGH_NUM_EXAMPLES", "")


def constant_images(evidence: Evidence) -> Iterator[Finding]:
    """Few images have only one grey level."""
    params = evidence.params
    for split, summary in evidence.splits.items():
        allowed = allowed_count(summary.images, params.max_constant_share, params.level)
        yield _some(split, summary.constant, allowed, summary.images, "images in {} are constant")


def duplicates(evidence: Evidence) -> Iterator[Finding]:
    """Few images repeat another one of their split."""
    params = evidence.params
    for split, summary in evidence.splits.items():
        hashes = summary.hashes
        allowed = allowed_count(len(hashes), params.max_duplicate_share, params.level)
        repeated = hashes[1:][hashes[1:] == hashes[:-1]]
        text = "images in {} repeat another one"
        yield _some(split, len(repeated), allowed, len(hashes), text, hashes=repeated)


def label_conflicts(evidence: Evidence) -> Iterator[Finding]:
    """Few equal images have different labels; over all splits, told of train."""
    params = evidence.params
    hashes = np.concatenate([s.hashes for s in evidence.splits.values()])
    labels = np.concatenate([s.labels for s in evidence.splits.values()])
    order = np.lexsort((labels, hashes))
    hashes, labels = hashes[order], labels[order]
    conflict = (hashes[1:] == hashes[:-1]) & (labels[1:] != labels[:-1])
    found = np.unique(hashes[1:][conflict])
    allowed = allowed_count(len(hashes), params.max_conflict_share, params.level)
    text = "images have two different labels"
    yield _some(_TRAIN, len(found), allowed, len(hashes), text, "label", found)


def leak(evidence: Evidence) -> Iterator[Finding]:
    """Few images of a split occur in a split that is trained or tuned on."""
    params = evidence.params
    for split, earlier in _LEAKS.items():
        hashes = evidence.splits[split].hashes
        known = np.concatenate([evidence.splits[name].hashes for name in earlier])
        found = hashes[np.isin(hashes, known)]
        allowed = allowed_count(len(hashes), params.max_leak_share, params.level)
        text = f"images in {{}} also occur in {' or '.join(earlier)}"
        yield _some(split, len(found), allowed, len(hashes), text, hashes=found)


def _some(
    split: str,
    found: int,
    allowed: int,
    size: int,
    text: str,
    feature: str = "image",
    hashes: npt.NDArray[np.uint64] | None = None,
) -> Finding:
    """A finding about things of which there should be none and may be a few."""
    sentence = f"{found:,} of {size:,} {text.format(split)}"
    if found:
        sentence += f", tolerated are {allowed:,}"
    few = () if hashes is None else tuple(np.unique(hashes)[:_NAMED].tolist())
    level = graded(found, 0, allowed)
    return Finding(split, level, found, allowed, sentence, feature=feature, hashes=few)
