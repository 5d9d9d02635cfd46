"""The validator's section of the config: the level of every check, and its bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from bnpipe.components.base import Level, configured_as

Share = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The level of each check of the data: block, only warn, or be off.

    The first that blocks, in this order, becomes the verdict's sentence.
    """

    presence: Level = "block"
    """Every record has every feature of the schema; one that it does not name is warned of."""
    types: Level = "block"
    """Every feature has the type of the schema."""
    shape: Level = "block"
    """Every image has as many bytes as the schema says."""
    finite: Level = "block"
    """No number is NaN or infinite."""
    labels: Level = "block"
    """Every label lies in the schema's range."""
    classes: Level = "block"
    """Every class has enough examples."""
    count: Level = "block"
    """There are enough examples, about as many as the champion was trained on, and in every span
    about as many as in the span before it."""
    range: Level = "block"
    """Image statistics lie in the schema's ranges, and pixels use the range of a byte."""
    constant_images: Level = "block"
    """Few images are constant; a single one is warned of."""
    duplicates: Level = "block"
    """Few images of a split repeat another one of it; a single one is warned of."""
    label_conflicts: Level = "block"
    """Few equal images have different labels; a single pair is warned of."""
    leak: Level = "block"
    """No image of a split also occurs in one that is trained on."""
    label_drift: Level = "block"
    """In every split and span the shares of classes are those of the champion's data and of the
    data set's train split, by the largest difference."""
    label_divergence: Level = "block"
    """The same by Jensen-Shannon divergence."""
    image_drift: Level = "block"
    """In every split and span image statistics are distributed as in the champion's data and as in
    the data set's train split, by Kolmogorov-Smirnov tests."""
    image_outliers: Level = "block"
    """Few images of a split or span lie outside the range of image statistics in those."""
    class_statistics: Level = "block"
    """In every split and span the images of a class have the image statistics that images of this
    class have in those: labels belong to their images."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `validator` section of the configuration."""

    schema: str | None = configured_as("data.schema", None, in_key=False)
    """A schema file (tensorflow_metadata Schema, text format) instead of the data set's own."""

    checks: Checks = Checks()
    """The level of every check: block, warn or off."""

    level: Annotated[float, Gt(0.0), Lt(0.5)] = 0.01
    """Probability that data without a fault trips the last five checks (together), or any other
    check that counts, over all splits and spans."""
    min_examples: Annotated[int, Ge(1)] = 100
    """Fewest examples to train on."""
    min_class_examples: Annotated[int, Ge(1)] = 1
    """Fewest examples of a class; blocks in train, and elsewhere if it is not chance."""
    min_class_share: Share = 0.1
    """Smallest share of a class in the train split, relative to equally large classes."""
    min_count_ratio: Share = 0.5
    """Smallest train split, relative to the champion's; it warns halfway down."""
    max_count_ratio: Annotated[float, Gt(1.0)] = 10.0
    """Largest train split, relative to the champion's."""
    min_span_ratio: Share = 0.2
    """Smallest span, relative to the span before it; it warns halfway down."""
    max_span_ratio: Annotated[float, Gt(1.0)] = 5.0
    """Largest span, relative to the span before it."""
    min_brightest: Annotated[int, Ge(0), Le(255)] = 32
    """Grey level that the brightest pixel of a split must reach; scaled data reaches 1."""
    max_constant_share: Share = 0.001
    """Tolerated share of constant images."""
    max_duplicate_share: Share = 0.01
    """Tolerated share of images that repeat another one of their split."""
    max_conflict_share: Share = 0.001
    """Tolerated share of images that occur with two different labels."""
    max_leak_share: Share = 0.0
    """Tolerated share of images that also occur in a split that is trained on. None: of MNIST's
    70,000 images no two are equal. What other data sets are published with is tolerated too, if it
    is known (fashion_mnist: 10 images of test)."""
    label_drift_tolerance: Share = 0.05
    """Tolerated change of the share of a class."""
    label_divergence_tolerance: Share = 0.02
    """Tolerated divergence of the shares of classes, in bits (a population stability index of
    about 0.1)."""
    image_drift_tolerance: Share = 0.1
    """Tolerated Kolmogorov-Smirnov distance of an image statistic."""
    max_outlier_share: Share = 0.01
    """Tolerated share of images outside the range of the reference, for each image statistic."""
    class_statistics_tolerance: Annotated[float, Ge(0.0)] = 0.3
    """Tolerated distance of the means of classes, of an image statistic, in its standard deviations
    within a class; it warns halfway. MNIST's test digits, of other writers, are at 0.09, either
    half of them, of different groups of writers, at 0.36 to 0.39; permuted labels are at 0.9."""
