"""Checks of single records: each against the schema, counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from components.example_validator.findings import Evidence, Finding, graded
from data import schema as schemas
from data.image_statistics import BINS, STATISTICS


def presence(evidence: Evidence) -> Iterator[Finding]:
    """Every record has every feature of the schema."""
    for split, summary in evidence.splits.items():
        named = {f.name for f in evidence.schema.feature}
        for feature in evidence.schema.feature:
            if schemas.is_derived(feature) or not feature.presence.min_fraction:
                continue
            seen = summary.features.get(feature.name)
            missing = summary.records - (seen.records if seen else 0)
            allowed = summary.records * (1.0 - feature.presence.min_fraction)
            yield Finding(
                split,
                graded(missing, allowed, allowed),
                missing,
                allowed,
                f"{missing:,} of {summary.records:,} records in {split} have no {feature.name}",
                "FEATURE_TYPE_LOW_FRACTION_PRESENT" if seen else "SCHEMA_MISSING_COLUMN",
                feature.name,
            )
        for name in sorted(set(summary.features) - named):
            count = summary.features[name].records
            sentence = f"{count:,} records in {split} have {name}, which the schema does not name"
            yield Finding(split, "warn", count, 0, sentence, "SCHEMA_NEW_COLUMN", name)


def types(evidence: Evidence) -> Iterator[Finding]:
    """Every feature has its type."""
    for split, summary in evidence.splits.items():
        for name, seen in summary.features.items():
            feature = schemas.feature(evidence.schema, name)
            if feature is None:
                continue
            wrong = {k: n for k, n in seen.kinds.items() if schemas.TYPE_NAMES[k] != feature.type}
            expected = next((k for k, t in schemas.TYPE_NAMES.items() if t == feature.type), "none")
            count = sum(wrong.values())
            sentence = (
                f"{count:,} records in {split} have {name} as {' and '.join(wrong)}, expected "
                f"{expected}"
                if wrong
                else f"every {name} in {split} is {expected}"
            )
            code = "UNEXPECTED_DATA_TYPE"
            yield Finding(split, graded(count, 0, 0), count, 0, sentence, code, name)


def shape(evidence: Evidence) -> Iterator[Finding]:
    """Every image has as many bytes as the schema says, which is what the data set declares."""
    feature = schemas.feature(evidence.schema, "image")
    expected = int(feature.image_domain.max_image_byte_size) if feature else 0
    for split, summary in evidence.splits.items():
        seen = summary.features.get("image")
        lengths = seen.lengths if seen else {}
        wrong = {length: n for length, n in lengths.items() if length != expected}
        count = sum(wrong.values())
        if wrong:
            length = max(wrong, key=lambda k: wrong[k])
            sentence = (
                f"{count:,} images in {split} have another size: expected {expected} bytes, "
                f"received {length} ({wrong[length]:,} of them)"
            )
        else:
            sentence = f"every image in {split} has {expected} bytes"
        yield Finding(split, graded(count, 0, 0), count, 0, sentence, "INVALID_FEATURE_SHAPE")


def finite(evidence: Evidence) -> Iterator[Finding]:
    """No number is NaN or infinite."""
    for split, summary in evidence.splits.items():
        for name, seen in summary.features.items():
            if set(seen.kinds) == {"bytes"}:
                continue
            count = seen.non_finite
            sentence = f"{count:,} values of {name} in {split} are not finite numbers"
            code = "FLOAT_TYPE_HAS_NAN"
            yield Finding(split, graded(count, 0, 0), count, 0, sentence, code, name)


def labels(evidence: Evidence) -> Iterator[Finding]:
    """Every label lies in the schema's range, and is a class of the data set."""
    feature = schemas.feature(evidence.schema, "label")
    if feature is None:
        return
    low, high = int(feature.int_domain.min), int(feature.int_domain.max)
    for split, summary in evidence.splits.items():
        seen = summary.features.get("label")
        allowed = summary.classes[low : high + 1].sum()
        count = int(summary.classes.sum() - allowed) + summary.outside
        sentence = f"every label in {split} is in {low}..{high}"
        code = "INT_TYPE_BIG_INT"
        if count and seen and seen.low is not None and seen.high is not None:
            odd = seen.high if seen.high > high else seen.low
            code = "INT_TYPE_BIG_INT" if seen.high > high else "INT_TYPE_SMALL_INT"
            sentence = (
                f"{count:,} labels in {split} are out of range: expected {low} to {high}, "
                f"received {odd:g}"
            )
        yield Finding(split, graded(count, 0, 0), count, 0, sentence, code, "label")


def value_range(evidence: Evidence) -> Iterator[Finding]:
    """Image statistics lie in the schema's ranges, and pixels use the range of a byte."""
    for split, summary in evidence.splits.items():
        if not summary.images:
            continue
        yield from sorted(_outside(evidence, split), key=lambda f: -f.value)
        brightest, bound = int(np.flatnonzero(summary.pixels)[-1]), evidence.params.min_brightest
        sentence = f"the brightest pixel in {split} has grey level {brightest} of 255"
        if brightest < bound:
            sentence += f", expected {bound} or more: scaled before?"
        level = graded(-brightest, -bound, -bound)
        yield Finding(split, level, brightest, bound, sentence, "INT_TYPE_SMALL_INT")


def _outside(evidence: Evidence, split: str) -> Iterator[Finding]:
    """How many images lie outside the schema's range of an image statistic."""
    summary = evidence.splits[split]
    for row, statistic in enumerate(STATISTICS):
        feature = schemas.feature(evidence.schema, statistic.name)
        if feature is None or not feature.HasField("float_domain") or not summary.drawn:
            continue
        low, high = feature.float_domain.min, feature.float_domain.max
        edges = np.linspace(statistic.low, statistic.high, BINS + 1)
        counts = summary.histograms[row]
        below = int(counts[edges[1:] <= low].sum())
        above = int(counts[edges[:-1] >= high].sum())
        share = (below + above) / summary.drawn
        tolerated = 1.0 - feature.distribution_constraints.min_domain_mass
        mean = statistic.value(int(summary.sums[row]) / summary.drawn)
        yield Finding(
            split,
            graded(share, tolerated, tolerated),
            share,
            tolerated,
            f"{statistic.name} ({statistic.meaning}) lies outside {low:g} to {high:g} in "
            f"{share:.2%} of {split} (mean {mean:.3g}, tolerated {tolerated:.2%})",
            "FLOAT_TYPE_SMALL_FLOAT" if below > above else "FLOAT_TYPE_BIG_FLOAT",
            statistic.name,
        )
