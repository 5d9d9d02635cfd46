"""How long the page over all runs takes, and how large it is.

    python tests/benchmarks/bench_overview.py [--runs 200]

The records are those of a run of this project, as many times, with other numbers in them; the page
is drawn by `bnpipe report --all` in a process of its own, so that its start counts too.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.pipeline.report.many_runs import estimates, many_runs

TARGET_SECONDS, TARGET_BYTES = 3.0, 2e6
REPEATS = 3


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        many_runs(home, runs)
        estimates(home, runs)
        page, seconds = home / "overview.html", []
        for _ in range(REPEATS):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "bnpipe.pipeline", "report", "--all"],
                env=os.environ | {"BNPIPE_HOME": folder},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - started)
        size, used = page.stat().st_size, resource.getrusage(resource.RUSAGE_CHILDREN)
    core = (used.ru_utime + used.ru_stime) / REPEATS
    sys.stdout.write(
        f"{runs} runs: {min(seconds):.2f} s (target {TARGET_SECONDS:g}; the fastest of {REPEATS}, "
        f"load {os.getloadavg()[0]:.1f}; {core:.2f} s of a core each), "
        f"{size / 1e6:.2f} MB (target {TARGET_BYTES / 1e6:g})\n"
    )


if __name__ == "__main__":
    main()
