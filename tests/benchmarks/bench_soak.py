"""How often a soak is wrong, by simulation of canaries whose truth is known.

    python tests/benchmarks/bench_soak.py --soaks 2000

Prints for each truth the share of soaks that withdraw the canary, whenever one looks, the median
pair at which they do, and the share that pass. The discordance of two seeds of the default network
on MNIST was measured: 2.08 % of the test images (97.74 % and 97.84 % known).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PAIRS = 3000  # 10 minutes at 5 a second


def main() -> None:
    """Prints one line for each truth."""
    import numpy as np

    from tests.serving.client.simulated_soaks import Truth, simulate

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soaks", type=int, default=2000, help="soaks per line")
    soaks = parser.parse_args().soaks
    _say(f"{soaks} soaks of {PAIRS} pairs")
    _say(f"{'canary':34}{'withdrawn':>10}{'median pair':>12}{'passed':>9}  asked for")
    for name, truth, asked in (
        ("equal", Truth(), "at most 1 % withdrawn"),
        ("2 points less accuracy", Truth(loss=0.02), "at least 95 %"),
        ("50 % more latency", Truth(slower=1.5), "at least 95 %, median at most 600"),
        ("1 point more errors", Truth(errors=0.01), "at least 95 %"),
        ("half a point less accuracy", Truth(loss=0.005), ""),
        ("10 % more latency", Truth(slower=1.1), ""),
    ):
        ends = simulate(truth, soaks, PAIRS)
        at = np.median(ends.failed[ends.failed > 0]) if ends.failures else float("nan")
        row = f"{name:34}{ends.failures:10.2%}{at:12.0f}{ends.passed.mean():9.1%}  {asked}"
        _say(row)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
