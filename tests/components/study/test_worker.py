"""Which rate the sweep chooses for an arm, and what a process trains next."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.study import worker
from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import units
from bnpipe.components.study.work import finished
from bnpipe.components.study.worker import Worker, best_rate


def test_the_best_rate_is_that_of_the_best_mean_and_waits_for_the_sweep(tmp_path: Path) -> None:
    sweep = [u for u in units(Params(), 1000) if u.experiment == "sweep"]
    # One seed did best at another rate, and two rates are equal in the mean.
    accuracies = {1e-3: (0.8, 0.9), 3e-3: (0.9, 0.8), 1e-2: (0.99, 0.5)}
    ours = [u for u in sweep if (u.arm, u.optimizer) == ("layer", "adam") and u.seed < 2]
    for unit in ours:
        assert best_rate(tmp_path, "layer", "adam", ours) is None
        accuracy = accuracies.get(unit.learning_rate or 0.0, (0.1, 0.1))[unit.seed]
        record = {"trainings": [{"validation_accuracy": accuracy}]}
        finished(tmp_path, unit).write_text(json.dumps(record))
    others = [u for u in sweep if u.arm != "layer"]
    assert best_rate(tmp_path, "layer", "adam", [*others, *ours]) == 1e-3


@pytest.mark.parametrize("is_large", [False, True])
def test_what_is_compiled_is_used_before_anything_else_is_compiled(
    is_large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each process is too large to compile more: the next one goes on."""
    params = Params(seeds=1, epochs=1, experiments=("main", "dropout", "small"))
    task = {"params": dataclasses.asdict(params), "classes": 2}
    (tmp_path / "task.json").write_text(json.dumps(task))
    (tmp_path / "arrays").mkdir()
    for split in ("train", "validation", "test"):
        np.ones((64, 3), np.float32).tofile(tmp_path / f"arrays/{split}.float32")
        np.save(tmp_path / f"arrays/{split}_labels.npy", np.zeros(64, np.int32))
    np.save(tmp_path / "arrays/doubtful.npy", np.zeros(64, np.bool_))
    np.save(tmp_path / "arrays/live.npy", np.ones(3, np.bool_))
    trained: list[str] = []

    class Bench:
        loop_seconds = 0.0

        def __init__(self, *_: Any) -> None:
            pass

        def train(self, unit: Any, _: float) -> list[Any]:
            trained.append(unit.arm)
            return []

    monkeypatch.setattr(worker, "Bench", Bench)
    monkeypatch.setattr(worker, "LARGEST", -(2**40) if is_large else 2**40)
    planned = units(params, 64)
    processes = 0
    while not all(finished(tmp_path, unit).exists() for unit in planned):
        Worker(tmp_path).work()
        processes += 1
        assert processes < 10
    assert (processes > 1) == is_large
    assert sorted(trained) == sorted(unit.arm for unit in planned)
    runs = [arm for arm, _ in itertools.groupby(trained)]
    assert len(runs) == len(set(runs)) < len(trained)
