"""Which rate the sweep chooses for an arm."""

import json
from pathlib import Path

from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import units
from bnpipe.components.study.work import finished
from bnpipe.components.study.worker import best_rate


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
