"""Checks of many records together: their number, in all and by class, and equal images."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.example_validator.drift import allowed_count, least_count
from bnpipe.components.example_validator.profile import Images, Observation, Profile, graded

_TRAIN = "train"
_NAMED = 5
"""Number of images of an observation that are named."""
_PLACES = 3
"""Number of places of leaked images that are named; the verdict has the ids."""
_LEAKS = {"test": ("train", "validation"), "validation": ("train",)}
"""Splits that must not share an image with those that come before them."""

PUBLISHED_LEAKS = {"fashion_mnist": 10}
"""Test images that a data set as published has in train too, by TFDS name; counted by bytes in
https://github.com/zalandoresearch/fashion-mnist/issues/44. MNIST has none. They are warned of."""


def classes(profile: Profile) -> Iterator[Observation]:
    """Every class has enough examples.

    In train also relative to equally large classes. In the other splits a class may have too few
    if that is what chance makes of its share in train; it is warned of then. Of classes that occur
    in no split, nor in the champion's data, it is only warned: the data set declares more than it
    has (TFDS's emnist/letters 37 for 26 letters).
    """
    params = profile.params
    occurring = _occurring(profile)
    number = int(occurring.sum())
    if number < len(occurring):
        absent = [profile.label(int(label)) for label in np.flatnonzero(~occurring)]
        sentence = f"{len(absent)} of {len(occurring)} classes occur nowhere: "
        sentence += ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        code = "FEATURE_TYPE_LOW_UNIQUE"
        yield Observation(_TRAIN, "warn", number, len(occurring), sentence, code, "label")
    level = params.level / number / len(profile.splits)
    train = profile.splits[_TRAIN].classes
    for split, summary in profile.splits.items():
        size = int(summary.classes.sum())
        if split == _TRAIN:
            few = least_count(size, params.min_class_share / number, level)
            bounds = np.where(occurring, max(params.min_class_examples, few), 0)
            warn = bounds
        else:
            shares = train / max(int(train.sum()), 1)
            chance = np.array([least_count(size, s, level) for s in shares])
            bounds = np.minimum(params.min_class_examples, chance)
            warn = np.where(occurring, params.min_class_examples, 0)
        yield _fewest(profile, split, summary.classes, bounds, warn)


def _occurring(profile: Profile) -> npt.NDArray[np.bool_]:
    """The classes, bool[K], that occur in a split or in the champion's data; all if none does."""
    before = [] if profile.champion is None else [profile.champion]
    occurring = np.zeros(profile.info.classes, bool)
    for summary in (*profile.splits.values(), *before):
        labels = np.flatnonzero(summary.classes)
        occurring[labels[labels < len(occurring)]] = True  # the champion's may have been more
    return occurring if occurring.any() else ~occurring


def _fewest(
    profile: Profile,
    split: str,
    counts: npt.NDArray[np.int64],
    bounds: npt.NDArray[np.int64],
    warn: npt.NDArray[np.int64],
) -> Observation:
    """The observation about the class that is furthest below its bound."""
    needed = np.maximum(bounds, warn)
    surplus = np.where(needed + counts > 0, counts - needed, np.iinfo(np.int64).max)
    label = int(np.argmin(surplus))
    count, bound = int(counts[label]), int(bounds[label])
    examples = f"{count:,} examples" if count else "no examples"
    sentence = f"{profile.label(label)} has {examples} in {split}"
    if count and count < bound:
        sentence += f", expected {bound:,} or more"
    grade = graded(-count, -int(warn[label]), -bound)
    code = "CUSTOM_VALIDATION" if count else "FEATURE_TYPE_LOW_UNIQUE"
    return Observation(split, grade, count, bound, sentence, code, "label")


def count(profile: Profile) -> Iterator[Observation]:
    """There are enough examples, about as many as the champion had, and spans are of one kind."""
    params, champion = profile.params, profile.champion
    for split, summary in profile.splits.items():
        size = summary.records
        bound = params.min_examples if split == _TRAIN else 1
        sentence = f"{split} has {size:,} examples, expected {bound:,} or more"
        grade = graded(-size, -bound, -bound)
        yield Observation(split, grade, size, bound, sentence, "DATASET_LOW_NUM_EXAMPLES", "")
    if champion is not None and champion.records:
        size = profile.splits[_TRAIN].records
        counted = f"train has {size:,} examples, the champion's had {champion.records:,}"
        low, high = params.min_count_ratio, params.max_count_ratio
        # What is trained on is known, not drawn: no chance but the middle.
        yield _ratio(counted, size, champion.records, low, high, 0.5)
    chance = params.level / max(len(profile.spans) - 1, 1)
    for (before, records), (name, size) in pairwise(profile.spans.items()):
        counted = f"span {name} has {size:,} examples, span {before} before it has {records:,}"
        low, high = params.min_span_ratio, params.max_span_ratio
        yield _ratio(counted, size, max(records, 1), low, high, chance)


def _ratio(
    counted: str, size: int, before: int, low: float, high: float, level: float
) -> Observation:
    """The observation about a count and the one before it.

    If deliveries really shrink to a share `low`, each of the examples of both belongs to the later
    one with probability low / (1 + low): too few are fewer than chance makes of that, with
    probability `level`. Halfway down, a smaller one is worth a word.
    """
    total, ratio = size + before, size / before
    if ratio <= 1.0:
        word = (1.0 + low) / 2.0
        least, few = (least_count(total, r / (1.0 + r), level) for r in (low, word))
        sentence = f"{counted}, expected {low:g} times as many or more"
        grade, bound = graded(-size, -few, -least), low
        code = "COMPARATOR_LOW_NUM_EXAMPLES"
    else:
        most = allowed_count(total, high / (1.0 + high), level)
        sentence = f"{counted}, expected {high:g} times as many at most"
        grade, bound = graded(size, most, most), high
        code = "COMPARATOR_HIGH_NUM_EXAMPLES"
    return Observation(_TRAIN, grade, ratio, bound, sentence, code, "")


def constant_images(profile: Profile) -> Iterator[Observation]:
    """Few images have only one grey level."""
    for split, part, summary in profile.parts:
        tolerated = profile.params.max_constant_share
        allowed = allowed_count(summary.images, tolerated, profile.level_of_part)
        text = f"images in {part} are constant"
        yield _some(split, summary.constant, allowed, summary.images, text)


def duplicates(profile: Profile) -> Iterator[Observation]:
    """Few images repeat another one of their split, of their own part or of an earlier one."""
    tolerated = profile.params.max_duplicate_share
    for split in profile.splits:
        images = _sorted(profile.images(split), "part", "hashes")
        text, again = "images in {} repeat another one", _as_before(images.hashes)
        yield from _by_part(profile, split, images, again, tolerated, text)


def label_conflicts(profile: Profile) -> Iterator[Observation]:
    """Few images of a part, equal ones counted once, have another label somewhere in the data."""
    images = _sorted(profile.images(*profile.splits), "labels", "part", "hashes")
    hashes, labels, part = images
    same = _as_before(hashes)
    conflict = np.isin(hashes, hashes[same & ~_as_before(labels)]) & ~(same & _as_before(part))
    text, tolerated = "images in {} occur with two labels", profile.params.max_conflict_share
    for split in profile.splits:
        yield from _by_part(profile, split, images, conflict, tolerated, text, "label")


def leak(profile: Profile) -> Iterator[Observation]:
    """No image of a split occurs in a split that is trained or tuned on."""
    for split, earlier in _LEAKS.items():
        images, before = profile.images(split), profile.images(*earlier)
        leaked = np.isin(images.hashes, before.hashes)
        where = np.unique(before.part[np.isin(before.hashes, images.hashes)]).tolist()
        places = [profile.parts[row].name for row in where[:_PLACES]] or earlier
        text = f"images in {{}} also occur in {' or '.join(places)}"
        text += f" or {len(where) - _PLACES} more" if len(where) > _PLACES else ""
        published = PUBLISHED_LEAKS.get(profile.info.name, 0) if split == "test" else 0
        tolerated = profile.params.max_leak_share
        yield from _by_part(profile, split, images, leaked, tolerated, text, published=published)


def _sorted(images: Images, *by: str) -> Images:
    """The images in the order of some of their columns; the last one counts first."""
    order = np.lexsort([getattr(images, column) for column in by])
    return Images(images.hashes[order], images.labels[order], images.part[order])


def _as_before(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """bool[N]: true for values that are equal to the one before them."""
    same = np.zeros(len(values), bool)
    same[1:] = values[1:] == values[:-1]
    return same


def _by_part(
    profile: Profile,
    split: str,
    images: Images,
    chosen: npt.NDArray[np.bool_],
    tolerated: float,
    text: str,
    feature: str = "image",
    published: int = 0,
) -> Iterator[Observation]:
    """One observation for every part of a split: the number of its images among the chosen."""
    for row, part in enumerate(profile.parts):
        if part.split == split:
            size = len(part.summary.hashes)
            mine = images.hashes[chosen & (images.part == row)]
            allowed = allowed_count(size, tolerated, profile.level_of_part)
            allowed = max(allowed, published if part is profile.base(split) else 0)
            yield _some(split, len(mine), allowed, size, text.format(part.name), feature, mine)


def _some(
    split: str,
    number: int,
    allowed: int,
    size: int,
    text: str,
    feature: str = "image",
    hashes: npt.NDArray[np.uint64] | None = None,
) -> Observation:
    """An observation about things of which there should be none and may be a few."""
    sentence = f"{number:,} of {size:,} {text}"
    if number:
        sentence += f", tolerated are {allowed:,}"
    few = () if hashes is None else tuple(np.unique(hashes)[:_NAMED].tolist())
    grade = graded(number, 0, allowed)
    return Observation(split, grade, number, allowed, sentence, feature=feature, hashes=few)
