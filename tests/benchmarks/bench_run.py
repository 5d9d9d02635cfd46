"""How long a run takes with steps side by side, beside the same run with one step at a time.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_run.py       # MNIST
    python tests/benchmarks/bench_run.py --rounds 1 --set trainer.epochs=2   # rendered_digits

Every round runs `bnpipe run` with `--jobs 1` and `--jobs 2` in turn, each in a home of its own: a
first run, one with TFDS's data prepared, one after a change of the learning rate (which has a
champion), and an unchanged one. It prints the best seconds of each, their ratio, the peak of the
proportional set size (PSS) of the run's whole tree of processes, and what each step of the best
first run took. The digests of all artifacts must be equal, or it ends with an error. First it says
how much two processes that only multiply slow one another: cores may be one, or share one's units.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.memory import peak_pss

BUDGET_SECONDS = {"first": 30.0, "prepared": 25.0, "retrained": 20.0, "unchanged": 0.65}
PEAK_BUDGET_GB = 2.5
ARITHMETIC = """
import time, numpy
a = numpy.ones((512, 512), numpy.float32)
began = time.monotonic()
for _ in range(1500):
    a @ a
print(time.monotonic() - began)
"""
JOBS = (1, 2)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    if "BNPIPE_ARCHIVES" not in os.environ:
        options.sets.append("data.dataset=rendered_digits")
        _say("BNPIPE_ARCHIVES is not set: rendered_digits instead of MNIST")
    alone, together = max(_multiplied(1)), max(_multiplied(2))
    _say(
        f"this machine: {together / alone:.2f}x the time for the same sums in two processes at once"
    )
    best: dict[tuple[str, int], dict[str, Any]] = {}
    digests: dict[str, dict[str, Any]] = {}
    for number in range(options.rounds):
        for jobs in JOBS if number % 2 == 0 else JOBS[::-1]:
            for what, measured in _round(jobs, options.sets):
                expected = digests.setdefault(what, measured["outputs"])
                if measured["outputs"] != expected:
                    sys.exit(f"{what}: --jobs {jobs} gave other digests")
                known = best.get((what, jobs))
                if known is None or measured["seconds"] < known["seconds"]:
                    best[what, jobs] = measured
    _table(best)


def _multiplied(processes: int) -> list[float]:
    """Seconds that each of some processes takes for the same arithmetic, side by side."""
    words, environ = [sys.executable, "-c", ARITHMETIC], {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    started = [subprocess.Popen(words, env=environ, stdout=pipe) for _ in range(processes)]
    return [float(process.communicate()[0]) for process in started]


def _round(jobs: int, sets: list[str]) -> Any:
    with tempfile.TemporaryDirectory(prefix="bench_run-") as folder:
        home = Path(folder) / "home"
        yield "first", _run(home, jobs, sets)
        # All is forgotten but what TFDS prepared.
        for name in ("objects", "steps", "served"):
            shutil.rmtree(home / name)
        yield "prepared", _run(home, jobs, sets)
        yield "retrained", _run(home, jobs, [*sets, "trainer.learning_rate=0.0011"])
        yield "unchanged", _run(home, jobs, [*sets, "trainer.learning_rate=0.0011"])


def _run(home: Path, jobs: int, sets: list[str]) -> dict[str, Any]:
    """One run in a process of its own."""
    words = [sys.executable, "-P", "-m", "bnpipe.pipeline", "run", "--json", f"--jobs={jobs}"]
    words += [word for value in sets for word in ("--set", value)]
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(
            words, env={**os.environ, "BNPIPE_HOME": str(home)}, stdout=answer
        )
        peak = peak_pss(process)
        seconds = time.monotonic() - began
        answer.seek(0)
        text = answer.read()
    if process.returncode not in (0, 3):  # a verdict is an answer too
        sys.exit(f"bnpipe run ended with {process.returncode}")
    summary = json.loads(text)
    return {
        "seconds": seconds,
        "peak": peak,
        "load": load,
        "steps": {s["name"]: s["seconds"] for s in summary["steps"] if s["action"] == "run"},
        # What was pushed holds the run's number.
        "outputs": {s["name"]: s["outputs"] for s in summary["steps"] if s["name"] != "pusher"},
    }


def _table(best: dict[tuple[str, int], dict[str, Any]]) -> None:
    _say(f"{'run':<10} {'jobs 1':>8} {'jobs 2':>8} {'ratio':>6} {'budget':>7}  peak PSS, load")
    for what, budget in BUDGET_SECONDS.items():
        one, two = (best[what, jobs] for jobs in JOBS)
        _say(
            f"{what:<10} {one['seconds']:>6.2f} s {two['seconds']:>6.2f} s "
            f"{one['seconds'] / two['seconds']:>5.2f}x {budget:>5.4g} s  "
            f"{one['peak'] / 1e9:.2f} and {two['peak'] / 1e9:.2f} GB (budget {PEAK_BUDGET_GB}), "
            f"load {one['load']:.1f} and {two['load']:.1f}"
        )
    for jobs in JOBS:
        steps = best["first", jobs]["steps"]
        rest = best["first", jobs]["seconds"] - (sum(steps.values()) if jobs == 1 else 0)
        told = ", ".join(f"{name} {seconds:.1f}" for name, seconds in steps.items())
        _say(f"first run, jobs {jobs}: {told}" + (f", the rest {rest:.1f}" if jobs == 1 else ""))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
