"""A process that trains what no other has taken, one group of the plan after the other.

python -m bnpipe.components.study.worker PARENT_ID FOLDER

Groups are taken by a lock of a file, which the kernel drops when its process dies. A finished
training is a file of its own, so a study that was killed goes on from there.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import sys
import time
from collections import defaultdict
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from bnpipe.components.network.examples import InMemory
from bnpipe.components.study.arms import ARMS, Arm
from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import Optimizer, Unit, units
from bnpipe.components.study.training import Bench, Data
from bnpipe.components.study.work import ARRAYS, LIVE, TASK, features_of, finished
from bnpipe.data import collect_rarely, give_back_memory
from bnpipe.data.durable import replace_text
from bnpipe.data.flock import locked
from bnpipe.data.json_text import json_text
from bnpipe.data.parent import end_with_parent

LARGEST = 400 * 2**20  # bytes of its own, beside the images
_WAIT_SECONDS = 0.1


def best_rate(folder: Path, arm: str, optimizer: Optimizer, sweep: list[Unit]) -> float | None:
    """The rate with the best mean validation accuracy of the sweep, the smallest of equals.

    None while the sweep is not finished.
    """
    accuracy: dict[float, float] = defaultdict(float)
    for unit in sweep:
        if (unit.arm, unit.optimizer) == (arm, optimizer) and unit.learning_rate is not None:
            if not finished(folder, unit).exists():
                return None
            (record,) = json.loads(finished(folder, unit).read_text())["trainings"]
            accuracy[unit.learning_rate] += record["validation_accuracy"]
    return max(sorted(accuracy), key=lambda rate: accuracy[rate])


class Worker:
    """Trains the groups that it can take."""

    def __init__(self, folder: Path) -> None:
        task = json.loads((folder / TASK).read_text())
        task["params"]["experiments"] = tuple(task["params"]["experiments"])
        self._folder = folder
        live = np.load(folder / ARRAYS / LIVE)
        splits = {
            name: InMemory(features_of(name, folder, int(live.sum())), np.load(labels))
            for name in ("train", "validation", "test")
            for labels in [folder / ARRAYS / f"{name}_labels.npy"]
        }
        # A copy lies in huge pages; out of a file's small ones a step takes a twentieth longer.
        splits["train"] = replace(splits["train"], features=splits["train"].features.copy())
        doubtful = np.load(folder / ARRAYS / "doubtful.npy")
        self._data = Data(**splits, doubtful=doubtful, classes=task["classes"], live=live)
        planned = units(Params(**task["params"]), self._data.train.size)
        self._sweep = [unit for unit in planned if unit.experiment == "sweep"]
        self._groups = {
            name: list(group) for name, group in itertools.groupby(planned, lambda u: u.group)
        }
        self._benches: dict[tuple[Arm, int, Optimizer], Bench] = {}
        self._has_trained = False

    def work(self) -> None:
        """Trains until nothing is left, or only what another process should compile.

        TensorFlow keeps most of what compiling took, so a process may have become too large for it.
        """
        while pending := [n for n, group in self._groups.items() if self._left(group)]:
            keys = {name: _key(self._groups[name][0]) for name in pending}
            self._benches = {k: b for k, b in self._benches.items() if k in keys.values()}
            compiled = [name for name in pending if keys[name] in self._benches]
            others = [name for name in pending if keys[name] not in self._benches]
            # One that has done nothing yet goes on: the next would be as large.
            large = self._has_trained and _own_bytes() > LARGEST + self._data.train.features.nbytes
            # Compiling is a tenth of a study: first what is compiled here already.
            if any(self._take(name) for name in compiled + others * (not large)):
                continue
            if large and others:
                return
            # None can be had while another process is at it, or at the sweep that it waits for.
            time.sleep(_WAIT_SECONDS)

    def _left(self, group: list[Unit]) -> list[Unit]:
        return [unit for unit in group if not finished(self._folder, unit).exists()]

    def _take(self, name: str) -> bool:
        """Trains what is left of a group; False when it cannot be had now."""
        group = self._groups[name]
        rate = None
        if group[0].learning_rate is None:
            rate = best_rate(self._folder, group[0].arm, group[0].optimizer, self._sweep)
            if rate is None:
                return False
        with locked(self._folder / f"{name}.lock", wait=0) as mine:
            if mine is None:
                return False
            left = self._left(group)
            if left:
                bench = self._bench(left[0])
                for unit in left:
                    self._train(bench, unit, unit.learning_rate or rate or 0.0)
            return bool(left)

    def _train(self, bench: Bench, unit: Unit, rate: float) -> None:
        before = bench.loop_seconds
        trainings = bench.train(unit, rate)
        content: dict[str, Any] = {
            "trainings": [asdict(training) for training in trainings],
            "seconds_per_step": (bench.loop_seconds - before) / max(1, unit.steps),
        }
        replace_text(finished(self._folder, unit), json_text(content))
        self._has_trained = True

    def _bench(self, unit: Unit) -> Bench:
        """What was compiled for the network, kept because it may come again, also in other arms."""
        key = _key(unit)
        if key not in self._benches:
            self._benches[key] = Bench(self._data, *key)
            gc.collect()
            give_back_memory()  # a third of what compiling took
        return self._benches[key]


def _key(unit: Unit) -> tuple[Arm, int, Optimizer]:
    """What is compiled for a unit; units with the same one share it."""
    return replace(ARMS[unit.arm], he=False, estimated=False), unit.depth, unit.optimizer


def _own_bytes() -> int:
    """Memory that this process shares with no other; 0 where the system does not tell."""
    try:
        resident, shared = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    except OSError:
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Returns the exit code."""
    collect_rarely()
    gc.freeze()
    parent, folder = sys.argv[1:]
    if not end_with_parent(int(parent), signal.SIGKILL):
        return 1
    Worker(Path(folder)).work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
