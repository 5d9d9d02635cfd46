"""Training time and accuracy: Keras `fit` as the source article calls it, `fit` at its best, ours.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_trainer.py [--seeds 5] [--epochs 10]
    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_trainer.py --quick

The whole takes about 7 minutes on two quiet cores, the quick one (one seed, 3 epochs) about one and
a half; its times are dominated by compiling, so it judges no target. Every training runs in a
process of its own, because the number of threads is fixed per process; the contenders take turns
seed by seed, so that they share whatever else the machine is doing. Times leave out the import of
TensorFlow and reading the data, and include all compiling. The steady state is that of the epochs
after the first, with everything that happens in them: neither `fit` nor the pilot validates, so it
is compared with this trainer as it does not either.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from typing import Any

from trainer_contenders import matrix_products, train_with_fit, train_with_ours, train_with_pilot

ARTICLE = "fit, as the article calls it"
OURS = "this trainer"
BARE = "this trainer, without validation"
PILOT = "the pilot of 40 lines"
RATIOS = (
    ("seconds", "in all"),
    ("us_per_step", "steady state"),
    ("processor_seconds", "processor time in all"),  # what a busy machine spoils least
)
FIT_OPTIONS: dict[str, dict[str, Any]] = {
    ARTICLE: {},
    "fit, 100 steps per execution": {"steps_per_execution": 100},
    "fit, 100 steps per execution, XLA": {"steps_per_execution": 100, "jit_compile": True},
    "fit, 1718 steps per execution, XLA": {"steps_per_execution": 1718, "jit_compile": True},
}
TARGETS = (  # contender, what, at least so many times as long as this
    (ARTICLE, OURS, "seconds", 7.0, "7x faster than the article's call, compile included"),
    (ARTICLE, BARE, "us_per_step", 12.0, "12x faster than the article's call in steady state"),
    (PILOT, BARE, "seconds", 1.0, "faster than the pilot, compile included"),
    (PILOT, BARE, "us_per_step", 1.0, "faster than the pilot in steady state"),
)
# Two-sided 95 % points of Student's t distribution for 1, 2, ... degrees of freedom.
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
PILOT_SEEDS = 3  # of the pilot only its time is asked


def in_a_process(what: str, seed: int, epochs: int) -> dict[str, float]:
    """Runs one measurement in a process of its own."""
    command = [sys.executable, __file__, "--only", what]
    command += ["--seed", str(seed), "--epochs", str(epochs)]
    blas = {"OPENBLAS_NUM_THREADS": "1"} if what == "products" else {}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | blas
    result = subprocess.run(command, capture_output=True, env=environment)
    if result.returncode:
        sys.exit(result.stderr.decode())
    answer: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return answer


def measure(what: str, seed: int, epochs: int) -> dict[str, float]:
    """One measurement, in this process."""
    if what == "products":
        return matrix_products()
    if what == PILOT:
        return train_with_pilot(seed, epochs)
    if what in (OURS, BARE):
        return train_with_ours(seed, epochs, 5_000 if what == OURS else 0)
    return train_with_fit(seed, epochs, FIT_OPTIONS[what])


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def ratio(theirs: str, ours: str, key: str, rows: dict[str, list[dict[str, float]]]) -> list[float]:
    """How many times as long theirs takes as ours, by seed."""
    return [a[key] / b[key] for a, b in zip(rows[theirs], rows[ours], strict=False)]


def say_times(rows: dict[str, list[dict[str, float]]]) -> None:
    """The table: medians over the seeds, ratios of runs that stood side by side."""
    say(f"\n{'':36}{'seconds':>9}{'compile':>9}{'us/step':>9}   test accuracy")
    for name, runs in rows.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        accuracies = [100 * run["accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        say(
            f"{name:36}{middle['seconds']:9.2f}{middle['compile_seconds']:9.2f}"
            f"{middle['us_per_step']:9.1f}   {statistics.mean(accuracies):.2f} % "
            f"(sd {spread:.2f}, n {len(runs)})"
        )
    for name, ours in itertools.product((n for n in rows if n not in (OURS, BARE)), (OURS, BARE)):
        for key, what in RATIOS:
            found = ratio(name, ours, key, rows)
            say(
                f"{name} / {ours}, {what}: {statistics.median(found):.1f}x "
                f"({min(found):.1f} to {max(found):.1f})"
            )


def say_accuracies(rows: dict[str, list[dict[str, float]]]) -> None:
    """Whether the test accuracies differ, by a paired t test over the seeds."""
    for name in (n for n in rows if n not in (OURS, BARE) and len(rows[n]) > 1):
        pairs = list(zip(rows[name], rows[OURS], strict=False))
        differences = [100 * (ours["accuracy"] - theirs["accuracy"]) for theirs, ours in pairs]
        mean = statistics.mean(differences)
        point = STUDENT_T[min(len(pairs) - 1, len(STUDENT_T)) - 1]
        half = point * statistics.stdev(differences) / len(pairs) ** 0.5
        verdict = "differ" if abs(mean) > half else "do not differ"
        say(
            f"test accuracy, ours - {name}: {mean:+.3f} points, 95 % interval {mean - half:+.3f} "
            f"to {mean + half:+.3f} over {len(pairs)} seeds: they {verdict} beyond noise"
        )


def say_targets(rows: dict[str, list[dict[str, float]]]) -> None:
    """For each target whether it was met, by the median over the seeds."""
    for theirs, ours, key, least, text in TARGETS:
        found = statistics.median(ratio(theirs, ours, key, rows))
        say(f"{'met' if found >= least else 'MISSED'}: {text}: {found:.2f}x")


def best_way_to_fit() -> str:
    """The fastest of the other ways to call `fit`, so that only it goes on."""
    ways = [name for name in FIT_OPTIONS if name != ARTICLE]
    times = {name: in_a_process(name, 0, 3)["us_per_step"] for name in ways}
    for name, microseconds in times.items():
        say(f"{name}: {microseconds:.0f} us a step in a run of 3 epochs")
    return min(ways, key=times.__getitem__)


def main() -> None:
    """Runs everything and prints the report, or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed, 3 epochs, no judgement")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "BNPIPE_ARCHIVES" not in os.environ:
        sys.exit("BNPIPE_ARCHIVES is not set: it names the folder with MNIST's four archives")
    if arguments.only:
        say(json.dumps(measure(arguments.only, arguments.seed, arguments.epochs)))
        return
    if arguments.epochs < 2 or arguments.seeds < 1:
        parser.error("expected at least 2 epochs, since the first one compiles, and 1 seed")

    seeds, epochs = (1, 3) if arguments.quick else (arguments.seeds, arguments.epochs)
    say(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    floors = [in_a_process("products", 0, 0)["us_per_step"]]
    best = list(FIT_OPTIONS)[-1] if arguments.quick else best_way_to_fit()
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        pilot = (PILOT,) if seed < PILOT_SEEDS else ()
        for name in (ARTICLE, best, OURS, BARE, *pilot):
            run = in_a_process(name, seed, epochs)
            rows.setdefault(name, []).append(run)
            say(f"seed {seed}, load {os.getloadavg()[0]:.1f}: {name}: {json.dumps(run)}")
        floors.append(in_a_process("products", 0, 0)["us_per_step"])
    say_times(rows)
    say_accuracies(rows)
    floor, ours = min(floors), min(run["us_per_step"] for run in rows[BARE])
    say(
        f"best steps per second: {1e6 / ours:.0f}; the matrix products of a step alone in BLAS: "
        f"{1e6 / floor:.0f} ({ours:.1f} us to {floor:.1f} us, {ours / floor:.2f} times)"
    )
    if not arguments.quick:
        say_targets(rows)
    say(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
