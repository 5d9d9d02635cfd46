"""How often the data gate cries wolf: every check, at its defaults, on data without a fault."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bnpipe.components.example_validator.gate import CHECKS, DRIFT_CHECKS, decide
from bnpipe.components.example_validator.params import Params
from bnpipe.components.example_validator.profile import Profile
from bnpipe.data.statistics.image_statistics import BINS, STATISTICS, STEPS
from bnpipe.data.statistics.schema import derived
from bnpipe.data.statistics.summary import SplitSummary
from tests.components.example_validator.validator_data import INFO, Pool, assembled, digits

MOST_ALARMS = 0.01
RESAMPLES = pytest.mark.parametrize("resamples", [300, pytest.param(1000, marks=pytest.mark.slow)])


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(*digits(10_000))


def without_a_fault(pool: Pool, rng: np.random.Generator, size: int, *spans: int) -> Profile:
    """Splits, spans and the champion's data: all of the same source, no image twice."""
    order, start = rng.permutation(len(pool.labels)), 0

    def take(count: float) -> SplitSummary:
        nonlocal start
        start += int(count)
        return pool.summary(order[start - int(count) : start])

    base = {"train": take(size), "validation": take(size / 10), "test": take(size / 5)}
    delivered = {str(n): rng.poisson(mean) for n, mean in enumerate(spans, 1)}
    added = {
        span: {"train": take(n / 2), "validation": take(n / 20), "test": take(n / 3)}
        for span, n in delivered.items()
    }
    given = {"info": INFO, "schema": derived(INFO), "champion": take(size), "params": Params()}
    return assembled(base, added, **given)


@RESAMPLES
@pytest.mark.parametrize(
    "spans",
    [pytest.param((), id="no spans", marks=pytest.mark.slow), pytest.param((300, 300), id="spans")],
)
def test_every_check_cries_wolf_at_most_once_in_a_hundred(
    pool: Pool, spans: tuple[int, ...], resamples: int
) -> None:
    rng = np.random.default_rng(0)
    alarms: Counter[str] = Counter()
    for _ in range(resamples):
        decision = decide(without_a_fault(pool, rng, 2500, *spans))
        found = {check.name for check in decision.rulings if check.outcome != "ok"}
        alarms.update(found)
        alarms["any drift check"] += bool(found & set(DRIFT_CHECKS))
        alarms["gate"] += not decision.passed
        assert len(decision.rulings) == len(CHECKS)
    assert max(alarms.values()) <= MOST_ALARMS * resamples, alarms


def as_bad_as_tolerated(pool: Pool, rng: np.random.Generator, schema: Any) -> Profile:
    """A source that has all the flaws that the default bounds tolerate, to the full extent."""
    params, parts = Params(), {}
    order = rng.permutation(len(pool.labels))
    for split, rows in zip(
        ("train", "validation", "test"), np.split(order, [6000, 6600]), strict=True
    ):
        parts[split] = part = pool.summary(rows)
        part.constant = int(rng.binomial(len(rows), params.max_constant_share))
        hashes, labels = pool.hashes[rows], pool.labels[rows]
        again = np.flatnonzero(rng.random(len(rows) - 1) < params.max_duplicate_share) + 1
        differ = rng.random(len(again)) < params.max_conflict_share / params.max_duplicate_share
        hashes[again], labels[again] = hashes[again - 1], labels[again - 1]
        labels[again[differ]] = (labels[again[differ]] + 1) % 10
        part._hashed, part._in_order = [(hashes, labels)], False
        rare = rng.random(len(rows)) < params.min_class_share / 10
        part.classes = np.bincount(np.where(rare, 9, rng.integers(0, 9, len(rows))), minlength=10)
    before = rng.poisson(2000)
    sizes = {"1": before, "2": rng.poisson(params.min_span_ratio * before)}
    given = {"info": INFO, "schema": schema, "champion": None, "params": params}
    return replace(assembled(parts, {}, **given), spans=sizes)


@RESAMPLES
def test_flaws_that_are_tolerated_block_at_most_once_in_a_hundred(
    pool: Pool, resamples: int
) -> None:
    schema, rng = derived(INFO), np.random.default_rng(0)
    for row, statistic in enumerate(STATISTICS):
        # The widest range of whole bins that leaves out as much as is tolerated.
        bins = np.sort(pool.steps[:, row] // (STEPS // BINS))
        outside = int(0.01 * len(bins)) // 2
        feature = schema.feature.add(name=statistic.name)
        low, high = bins[outside], bins[-outside - 1] + 1
        feature.float_domain.min = statistic.value(int(low) * STEPS // BINS)
        feature.float_domain.max = statistic.value(int(high) * STEPS // BINS)
        feature.distribution_constraints.min_domain_mass = 0.99
    checks = ("classes", "count", "range", "constant_images", "duplicates", "label_conflicts")
    alarms: Counter[str] = Counter()
    for _ in range(resamples):
        seen = as_bad_as_tolerated(pool, rng, schema)
        for name in checks:
            alarms[name] += any(finding.outcome == "block" for finding in CHECKS[name](seen))
    assert max(alarms.values()) <= MOST_ALARMS * resamples, alarms
