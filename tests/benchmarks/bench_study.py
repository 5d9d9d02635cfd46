"""The time and memory of a whole study, beside the same trainings one by one.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_study.py [--seeds 16]

Takes about eight minutes. The product's data is ingested first, so that the study finds it cached.
"One by one" is extrapolated, and says so: for every network of the plan one training is run as the
product runs it, with a network of its own that is built, compiled and trained for one epoch; each
training of the plan is then counted with what building and compiling took, and its steps at that
speed, in seconds of the processor. Import, reading and measuring are left out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bnpipe.components.study.params import Params
from tests.memory import peak_pss

TARGET_SECONDS, TARGET_BYTES = 300.0, 2e9


def bnpipe(home: Path, *words: str) -> int:
    """Runs a command; the peak of its memory in bytes."""
    environment = os.environ | {"BNPIPE_HOME": str(home)}
    command = [sys.executable, "-m", "bnpipe.pipeline", *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    peak = peak_pss(process)
    if process.returncode:
        sys.exit(f"bnpipe {words[0]} ended with {process.returncode}")
    return peak


def study(home: Path, seeds: int) -> tuple[float, int]:
    """Wall seconds and peak bytes of `bnpipe study`."""
    began = time.perf_counter()
    peak = bnpipe(home, "study", "--json", "--set", f"study.seeds={seeds}")
    return time.perf_counter() - began, peak


def one_by_one(home: Path, seeds: int) -> tuple[float, int]:
    """Extrapolated processor seconds of all trainings, and how many were run for it."""
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    import numpy as np

    from bnpipe.components.network.examples import InMemory
    from bnpipe.components.study.arms import ARMS
    from bnpipe.components.study.plan import BATCH_SIZE, MOST_IMAGES, units
    from bnpipe.components.study.training import Bench, Data
    from bnpipe.components.study.work import live_features
    from tests.transformed import read_transformed

    def split(name: str) -> InMemory:
        shards = sorted(home.glob(f"objects/*/*/Split-{name}/transformed_examples-*"))
        read = read_transformed(shards)
        return InMemory(read.features[:MOST_IMAGES], read.label[:MOST_IMAGES].astype(np.int32))

    splits = [split(name) for name in ("train", "validation", "test")]
    live = live_features(splits, splits[0].features.shape[1])
    splits = [InMemory(part.features[:, live].copy(), part.labels) for part in splits]
    train, validation, test = splits
    classes = int(train.labels.max()) + 1
    data = Data(train, validation, test, np.zeros(test.size, bool), classes, live)
    measured: dict[tuple[str, int, str], tuple[float, float]] = {}
    total = 0.0
    for unit in units(Params(seeds=seeds), train.size):
        key = unit.arm, unit.depth, unit.optimizer
        if key not in measured:
            began = time.process_time()
            bench = Bench(data, ARMS[unit.arm], unit.depth, unit.optimizer)
            bench.restart(ARMS[unit.arm], 1e-3, 0)
            once = time.process_time() - began
            steps = min(300 if unit.depth > 2 else 1562, train.size // BATCH_SIZE)
            bench.advance(0, train.size, 0, steps)
            measured[key] = once, bench.loop_seconds / steps
        once, per_step = measured[key]
        total += once + per_step * unit.steps
    return total, len(measured)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=Params().seeds)
    seeds = parser.parse_args().seeds
    if "BNPIPE_ARCHIVES" not in os.environ:
        sys.exit("BNPIPE_ARCHIVES is not set: it names the folder with MNIST's four archives")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        bnpipe(home, "run", "--to", "transform")
        load = os.getloadavg()[0]
        seconds, peak = study(home, seeds)
        single, sampled = one_by_one(home, seeds)
    found = {
        "load_before": round(load, 2),
        "study_seconds": round(seconds, 1),
        "study_peak_bytes": peak,
        "one_by_one_seconds": round(single, 1),
        "one_by_one": f"extrapolated from {sampled} trainings, one of each network",
    }
    met = seconds < TARGET_SECONDS and peak < TARGET_BYTES
    said = f"target {'met' if met else 'MISSED'}: {TARGET_SECONDS:g} s on two quiet cores, 2 GB"
    sys.stdout.write(f"{json.dumps(found, indent=2)}\n{said}\n")
    return 0 if met or seeds != Params().seeds else 1


if __name__ == "__main__":
    sys.exit(main())
