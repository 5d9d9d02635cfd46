"""Faults that the gate must find, one and more for every anomaly code that a check can give."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bnpipe.components.example_validator.profile import Profile
from bnpipe.data.statistics.schema import derived
from tests.components.example_validator.validator_data import (
    INFO,
    healthy,
    profile,
    spans_of,
    summary,
)

Splits = dict[str, Any]


class Fault(NamedTuple):
    """Data with a fault.

    Attributes:
        check: the check that finds it.
        outcome: what it comes to.
        code: the anomaly's type.
        sentence: what it says, or a part of that.
        make: makes the profile; takes parameters of the validator.
    """

    check: str
    outcome: str
    code: str
    sentence: str
    make: Callable[..., Profile]


def without_ids(splits: Splits) -> Splits:
    del splits["train"]["id"]
    return splits


def label_as_float(splits: Splits) -> Splits:
    splits["test"]["label"] = splits["test"]["label"].astype(np.float32)[:, None]
    return splits


def cropped(splits: Splits) -> Splits:
    splits["train"]["image"] = splits["train"]["image"][:, : 27 * 28]
    return splits


def with_nan(splits: Splits) -> Splits:
    splits["train"]["weight"] = np.full((len(splits["train"]["label"]), 1), np.nan, np.float32)
    return splits


def label_ten(splits: Splits) -> Splits:
    splits["train"]["label"][3] = 10
    return splits


def negative_label(splits: Splits) -> Splits:
    splits["validation"]["label"][0] = -2
    return splits


def without_sevens(splits: Splits) -> Splits:
    train = splits["train"]
    splits["train"] = {k: column[train["label"] != 7] for k, column in train.items()}
    return splits


def no_seven_in_a_large_test(splits: Splits) -> Splits:
    labels = splits["test"]["label"]
    labels[:] = np.where(labels == 7, 1, labels)
    many = {k: np.concatenate([c] * 20) for k, c in splits["test"].items()}
    many["image"] = np.random.default_rng(0).integers(0, 256, many["image"].shape).astype(np.uint8)
    splits["test"] = many
    return splits


def a_handful(splits: Splits) -> Splits:
    order = np.argsort(splits["train"]["label"], kind="stable")[::8]
    splits["train"] = {k: column[order] for k, column in splits["train"].items()}
    return splits


def scaled(splits: Splits) -> Splits:
    splits["test"]["image"] = (splits["test"]["image"] / 255).astype(np.uint8)
    return splits


def blank(splits: Splits) -> Splits:
    splits["train"]["image"][:20] = 0
    splits["train"]["label"][:20] = splits["train"]["label"][0]
    return splits


def repeated(splits: Splits) -> Splits:
    train = splits["train"]
    train["image"][:40], train["label"][:40] = train["image"][40:80], train["label"][40:80]
    return splits


def relabelled(splits: Splits) -> Splits:
    train = splits["train"]
    train["image"][:5] = train["image"][40:45]
    train["label"][:5] = (train["label"][40:45] + 1) % 10
    return splits


def leaked(splits: Splits) -> Splits:
    for column in ("image", "label"):
        splits["test"][column][0] = splits["train"][column][0]
    return splits


def one_seven(splits: Splits) -> Splits:
    labels = splits["train"]["label"]
    labels[np.flatnonzero(labels == 7)[1:]] = 1
    return splits


def half_without_ids(splits: Splits) -> Splits:
    train = splits["train"]
    rest = {k: c[200:] for k, c in train.items() if k != "id"}
    return splits | {"train": [{k: c[:200] for k, c in train.items()}, rest]}


def with_writer(splits: Splits) -> Splits:
    splits["train"]["writer"] = np.zeros((400, 4), np.uint8)
    return splits


def with_infinity(splits: Splits) -> Splits:
    splits["train"]["weight"] = np.full((400, 1), np.inf, np.float32)
    return splits


def many_threes(splits: Splits) -> Splits:
    labels = splits["train"]["label"]
    labels[np.random.default_rng(0).random(len(labels)) < 0.5] = 3
    return splits


def permuted(splits: Splits) -> Splits:
    np.random.default_rng(0).shuffle(splits["train"]["label"])
    return splits


def inverted_test(splits: Splits) -> Splits:
    splits["test"]["image"] = 255 - splits["test"]["image"]
    return splits


def faint_test(splits: Splits) -> Splits:
    splits["test"]["image"] = splits["test"]["image"] // 6
    return splits


def data(spoil: Callable[[Splits], Splits]) -> Callable[..., Profile]:
    """The splits with a fault."""
    return lambda **params: profile(spoil(healthy()), **params)


def drifted(spoil: Callable[[Splits], Splits]) -> Callable[..., Profile]:
    """The splits with a fault, and a champion that was trained on them without."""
    return lambda **params: profile(
        spoil(healthy()), champion=summary(healthy()["train"]), **params
    )


def ink_from(low: float, high: float) -> Callable[..., Profile]:
    """Healthy data whose schema wants other ink."""

    def make(**params: Any) -> Profile:
        schema = derived(INFO)
        ink = schema.feature.add(name="ink", type="FLOAT")
        ink.float_domain.min, ink.float_domain.max = low, high
        ink.distribution_constraints.min_domain_mass = 0.99
        return profile(healthy(), schema=schema, **params)

    return make


def trained_on(times: float) -> Callable[..., Profile]:
    """Healthy data, and a champion that was trained on so many times as much."""
    train = healthy()["train"]
    batches = [train] * int(times) or [{k: c[: int(400 * times)] for k, c in train.items()}]
    return lambda **params: profile(healthy(), champion=summary(*batches), **params)


def delivered(*sizes: int) -> Callable[..., Profile]:
    """Healthy data with spans of these sizes."""
    source = spans_of(*sizes)
    return lambda **params: profile(healthy(), spans=source, **params)


FAULTS = [
    Fault("presence", "block", "SCHEMA_MISSING_COLUMN",
          "400 of 400 records in train have no id", data(without_ids)),
    Fault("presence", "block", "FEATURE_TYPE_LOW_FRACTION_PRESENT",
          "200 of 400 records in train have no id", data(half_without_ids)),
    Fault("presence", "warn", "SCHEMA_NEW_COLUMN",
          "400 records in train have writer, which the schema does not name", data(with_writer)),
    Fault("types", "block", "UNEXPECTED_DATA_TYPE",
          "100 records in test have label as float", data(label_as_float)),
    Fault("shape", "block", "INVALID_FEATURE_SHAPE",
          "expected 784 bytes, received 756", data(cropped)),
    Fault("finite", "block", "FLOAT_TYPE_HAS_NAN",
          "400 values of weight in train are not finite", data(with_nan)),
    Fault("finite", "block", "FLOAT_TYPE_HAS_INF",
          "400 values of weight in train are not finite", data(with_infinity)),
    Fault("labels", "block", "INT_TYPE_BIG_INT",
          "1 labels in train are out of range: expected 0 to 9, received 10", data(label_ten)),
    Fault("labels", "block", "INT_TYPE_SMALL_INT", "received -2", data(negative_label)),
    Fault("classes", "block", "FEATURE_TYPE_LOW_UNIQUE",
          "label 7 has no examples in train", data(without_sevens)),
    Fault("classes", "block", "FEATURE_TYPE_LOW_UNIQUE",
          "label 7 has no examples in test", data(no_seven_in_a_large_test)),
    Fault("classes", "block", "CUSTOM_VALIDATION",
          "label 7 has 1 examples in train, expected 5 or more",
          lambda **params: profile(one_seven(healthy()), min_class_examples=5, **params)),
    Fault("count", "block", "DATASET_LOW_NUM_EXAMPLES",
          "train has 50 examples, expected 100 or more", data(a_handful)),
    Fault("count", "block", "COMPARATOR_LOW_NUM_EXAMPLES",
          "train has 400 examples, the champion's had 1,200", trained_on(3)),
    Fault("count", "block", "COMPARATOR_HIGH_NUM_EXAMPLES",
          "train has 400 examples, the champion's had 30", trained_on(0.075)),
    Fault("count", "block", "COMPARATOR_LOW_NUM_EXAMPLES",
          "span 3 has 20 examples, span 2 before it has 300, expected 0.2 times as many or more",
          delivered(200, 300, 20)),
    Fault("count", "block", "COMPARATOR_HIGH_NUM_EXAMPLES",
          "span 2 has 300 examples, span 1 before it has 20, expected 5 times as many at most",
          delivered(20, 300)),
    Fault("range", "block", "INT_TYPE_SMALL_INT",
          "the brightest pixel in test has grey level 1 of 255", data(scaled)),
    Fault("range", "block", "FLOAT_TYPE_SMALL_FLOAT",
          "ink (mean grey level of all pixels) lies outside 200 to 255", ink_from(200, 255)),
    Fault("range", "block", "FLOAT_TYPE_BIG_FLOAT",
          "ink (mean grey level of all pixels) lies outside 0 to 5", ink_from(0, 5)),
    Fault("constant_images", "block", "CUSTOM_VALIDATION",
          "20 of 400 images in train are constant", data(blank)),
    Fault("duplicates", "block", "CUSTOM_VALIDATION",
          "40 of 400 images in train repeat another one", data(repeated)),
    Fault("label_conflicts", "block", "CUSTOM_VALIDATION",
          "5 of 400 images in train occur with two labels", data(relabelled)),
    Fault("leak", "block", "CUSTOM_VALIDATION",
          "1 of 100 images in test also occur in train, tolerated", data(leaked)),
    Fault("label_drift", "block", "COMPARATOR_L_INFTY_HIGH",
          "% of train, 12.0% of the champion's data", drifted(many_threes)),
    Fault("label_divergence", "block", "COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH",
          "shares of classes in train from the champion's data", drifted(many_threes)),
    Fault("image_drift", "block", "CUSTOM_VALIDATION", "in test, ", data(inverted_test)),
    Fault("image_outliers", "block", "FLOAT_TYPE_BIG_FLOAT",
          "100 of 100 images in test have ", data(inverted_test)),
    Fault("image_outliers", "block", "FLOAT_TYPE_SMALL_FLOAT",
          " of 100 images in test have ", data(faint_test)),
    Fault("class_statistics", "block", "CUSTOM_VALIDATION",
          " in train, ", drifted(permuted)),
]  # fmt: skip
