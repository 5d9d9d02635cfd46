"""Checks of single records: each against the schema, counted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bnpipe.components.example_validator.drift import allowed_count
from bnpipe.components.example_validator.profile import Observation, Profile, Share, graded
from bnpipe.data.statistics import schema as schemas
from bnpipe.data.statistics.image_statistics import BINS, STATISTICS


def presence(profile: Profile) -> Iterator[Observation]:
    """Every record has every feature of the schema."""
    for split, part, summary in profile.parts:
        named = {f.name for f in profile.schema.feature}
        for feature in profile.schema.feature:
            if schemas.is_derived(feature) or not feature.presence.min_fraction:
                continue
            seen = summary.features.get(feature.name)
            missing = summary.records - (seen.records if seen else 0)
            allowed = summary.records * (1.0 - feature.presence.min_fraction)
            yield Observation(
                split,
                graded(missing, allowed, allowed),
                missing,
                allowed,
                f"{missing:,} of {summary.records:,} records in {part} have no {feature.name}",
                "FEATURE_TYPE_LOW_FRACTION_PRESENT" if seen else "SCHEMA_MISSING_COLUMN",
                feature.name,
            )
        for name in sorted(set(summary.features) - named):
            count = summary.features[name].records
            sentence = f"{count:,} records in {part} have {name}, which the schema does not name"
            yield Observation(split, "warn", count, 0, sentence, "SCHEMA_NEW_COLUMN", name)


def types(profile: Profile) -> Iterator[Observation]:
    """Every feature has its type."""
    for split, part, summary in profile.parts:
        for name, seen in summary.features.items():
            feature = schemas.feature(profile.schema, name)
            if feature is None:
                continue
            wrong = {k: n for k, n in seen.kinds.items() if schemas.TYPE_NAMES[k] != feature.type}
            expected = next((k for k, t in schemas.TYPE_NAMES.items() if t == feature.type), "none")
            count = sum(wrong.values())
            sentence = (
                f"{count:,} records in {part} have {name} as {' and '.join(wrong)}, expected "
                f"{expected}"
                if wrong
                else f"every {name} in {part} is {expected}"
            )
            code = "UNEXPECTED_DATA_TYPE"
            yield Observation(split, graded(count, 0, 0), count, 0, sentence, code, name)


def shape(profile: Profile) -> Iterator[Observation]:
    """Every image has as many bytes as the schema says, which is what the data set declares."""
    feature = schemas.feature(profile.schema, "image")
    expected = int(feature.image_domain.max_image_byte_size) if feature else 0
    for split, part, summary in profile.parts:
        seen = summary.features.get("image")
        lengths = seen.lengths if seen else {}
        wrong = {length: n for length, n in lengths.items() if length != expected}
        count = sum(wrong.values())
        if wrong:
            length = max(wrong, key=lambda k: wrong[k])
            sentence = (
                f"{count:,} images in {part} have another size: expected {expected} bytes, "
                f"received {length} ({wrong[length]:,} of them)"
            )
        else:
            sentence = f"every image in {part} has {expected} bytes"
        yield Observation(split, graded(count, 0, 0), count, 0, sentence, "INVALID_FEATURE_SHAPE")


def finite(profile: Profile) -> Iterator[Observation]:
    """No number is NaN or infinite."""
    for split, part, summary in profile.parts:
        for name, seen in summary.features.items():
            if set(seen.kinds) == {"bytes"}:
                continue
            infinite = seen.non_finite - seen.nan
            sentence = f"{seen.non_finite:,} values of {name} in {part} are not finite numbers"
            grade = graded(seen.non_finite, 0, 0)
            code = "FLOAT_TYPE_HAS_INF" if infinite > seen.nan else "FLOAT_TYPE_HAS_NAN"
            if infinite and seen.nan:
                sentence += f" ({seen.nan:,} NaN, {infinite:,} infinite)"
            yield Observation(split, grade, seen.non_finite, 0, sentence, code, name)


def labels(profile: Profile) -> Iterator[Observation]:
    """Every label lies in the schema's range, and is a class of the data set."""
    feature = schemas.feature(profile.schema, "label")
    if feature is None:
        return
    low, high = int(feature.int_domain.min), int(feature.int_domain.max)
    for split, part, summary in profile.parts:
        seen = summary.features.get("label")
        allowed = summary.classes[max(low, 0) : max(high + 1, 0)].sum()
        count = int(summary.classes.sum() - allowed) + summary.outside
        sentence = f"every label in {part} is in {low}..{high}"
        code = "INT_TYPE_BIG_INT"
        if count and seen and seen.low is not None and seen.high is not None:
            odd = seen.high if seen.high > high else seen.low
            code = "INT_TYPE_BIG_INT" if seen.high > high else "INT_TYPE_SMALL_INT"
            sentence = (
                f"{count:,} labels in {part} are out of range: expected {low} to {high}, "
                f"received {odd:g}"
            )
        yield Observation(split, graded(count, 0, 0), count, 0, sentence, code, "label")


def value_range(profile: Profile) -> Iterator[Observation]:
    """Image statistics lie in the schema's ranges, and pixels use the range of a byte."""
    for part in profile.parts:
        split, name, summary = part
        if not summary.images:
            continue
        yield from sorted(_outside(profile, part), key=lambda f: f.bound - f.value)
        brightest, bound = int(np.flatnonzero(summary.pixels)[-1]), profile.params.min_brightest
        sentence = f"the brightest pixel in {name} has grey level {brightest} of 255"
        if brightest < bound:
            sentence += f", expected {bound} or more: scaled before?"
        grade = graded(-brightest, -bound, -bound)
        yield Observation(split, grade, brightest, bound, sentence, "INT_TYPE_SMALL_INT")


def _outside(profile: Profile, part: Share) -> Iterator[Observation]:
    """The images that lie outside the schema's range of an image statistic.

    The schema tolerates a share of them, and a small part may by chance hold more than that share;
    the error level is shared by the statistics that have a range.
    """
    split, name, summary = part
    ranges = {
        feature.name: feature
        for feature in profile.schema.feature
        if feature.HasField("float_domain")
    }
    for row, statistic in enumerate(STATISTICS):
        feature = ranges.get(statistic.name)
        if feature is None or not summary.drawn:
            continue
        low, high = feature.float_domain.min, feature.float_domain.max
        edges = np.linspace(statistic.low, statistic.high, BINS + 1)
        counts = summary.histograms[row]
        below = int(counts[edges[1:] <= low].sum())
        above = int(counts[edges[:-1] >= high].sum())
        share = (below + above) / summary.drawn
        tolerated = 1.0 - feature.distribution_constraints.min_domain_mass
        level = profile.level_of_part / len(ranges)
        bound = allowed_count(summary.drawn, tolerated, level) / summary.drawn
        mean = statistic.value(int(summary.sums[row]) / summary.drawn)
        yield Observation(
            split,
            graded(share, bound, bound),
            share,
            bound,
            f"{statistic.name} ({statistic.meaning}) lies outside {low:g} to {high:g} in "
            f"{share:.2%} of {name} (mean {mean:.3g}, tolerated {tolerated:.2%}, by chance up to "
            f"{bound:.2%})",
            "FLOAT_TYPE_SMALL_FLOAT" if below > above else "FLOAT_TYPE_BIG_FLOAT",
            statistic.name,
        )
