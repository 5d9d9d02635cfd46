"""What the data gate sees: false alarms on data without a fault, power on damaged spans.

    python tests/benchmarks/bench_data_gate.py                            # rendered digits
    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_data_gate.py   # and MNIST

Every check is at its defaults. A false alarm is a warning or a block on splits, two spans and a
champion's data that are all of one source. Power is the share of spans, one beside a large data
set, that the gate blocks / at least warns of, where 5, 10, 30 or 100 % of the span is damaged.
Of labels that do not belong to their images, one check says how often it blocked or warned.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bnpipe.components.example_validator.gate import CHECKS, DRIFT_CHECKS, decide
from tests.components.example_validator.test_gate_alarms import without_a_fault
from tests.components.example_validator.test_gate_power import MNIST, Source, read_splits
from tests.components.example_validator.validator_data import INFO, SPOILED, Pool, digits

RESAMPLES, SPANS = 1000, 20
SHARES, SIZES = (0.05, 0.1, 0.3, 1.0), (300, 1000)


def main() -> None:
    """Measures and prints."""
    _false_alarms()
    _power("rendered_digits", Source(INFO, *digits(26_000), (5500, 500, 1000)))
    _labels("rendered_digits", Source(INFO, *digits(26_000), (5500, 500, 1000)))
    archives = os.environ.get("BNPIPE_ARCHIVES")
    if archives:
        splits = read_splits(Path(archives))
        images, labels = (np.concatenate(columns) for columns in zip(*splits.values(), strict=True))
        order = np.random.default_rng(0).permutation(len(labels))
        _power("mnist", Source(MNIST, images[order], labels[order], (30_000, 3000, 5000)))
        _labels("mnist", Source(MNIST, images, labels, (55_000, 3000, 2000)))


def _false_alarms() -> None:
    pool, rng = Pool(*digits(10_000)), np.random.default_rng(0)
    alarms: Counter[str] = Counter()
    blocked = any_drift = 0
    for _ in range(RESAMPLES):
        decision = decide(without_a_fault(pool, rng, 2500, 300, 300))
        found = {check.name for check in decision.rulings if check.outcome != "ok"}
        alarms.update(found)
        any_drift += bool(found & set(DRIFT_CHECKS))
        blocked += not decision.passed
    _say(f"false alarms in {RESAMPLES} resamples, warnings included:")
    _say("  " + ", ".join(f"{name} {alarms[name]}" for name in CHECKS))
    _say(f"  any of the drift checks {any_drift}, runs blocked {blocked}")


def _power(name: str, source: Source) -> None:
    _say(f"{name}: damaged spans blocked / noticed, of {SPANS}")
    for size in SIZES:
        _say(f"  span of {size:<18}" + "".join(f"{share:>10.0%}" for share in SHARES))
        for spoiled in SPOILED:
            cells = []
            for share in SHARES:
                made = [
                    decide(source.with_damaged_span(spoiled, share, size)) for _ in range(SPANS)
                ]
                noticed = sum(any(c.outcome in ("warn", "block") for c in d.rulings) for d in made)
                cells.append(f"{sum(not d.passed for d in made)}/{noticed}")
            _say(f"    {spoiled:<24}" + "".join(f"{cell:>10}" for cell in cells))


def _labels(name: str, source: Source) -> None:
    """Spans of 300 with permuted labels, and 1,000 with their own."""
    _say(f"{name}: class_statistics of spans of 300 blocked / noticed, by share of permuted labels")
    for share, spans in ((0.0, RESAMPLES), (0.1, 100), (0.3, 100), (0.5, 100), (1.0, 200)):
        made = [decide(source.with_labels(share, 300)).rulings[-1] for _ in range(spans)]
        assert made[0].name == "class_statistics"
        counts = Counter(ruling.outcome for ruling in made)
        noticed = counts["block"] + counts["warn"]
        _say(f"  {share:>6.0%}{counts['block']:>8}/{noticed} of {spans}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
