"""What is compared with what: the same seeds, up to the step that both trainings reach."""

from dataclasses import replace

import pytest

from bnpipe.components.study.readings import (
    USABLE,
    Trained,
    accuracy,
    imbalance,
    pair,
    shifted,
    small_gap,
    steps_to,
    usable_rate,
    usable_rates,
)
from bnpipe.components.study.results import Training
from tests.components.study.synthetic import RATES, Synthetic

LONG = Training(
    experiment="main",
    arm="none",
    seed=1,
    train_images=100,
    steps=40,
    curve_steps=(10, 20, 30, 40),
    curve_accuracy=(0.5, 0.96, 0.9, 0.98),
    test_accuracy=0.9,
    train_accuracy=0.95,
    gradient_steps=(0, 10),
    gradient_ratio=(0.5, 2.0),
)
SHORT = replace(LONG, arm="standardized", steps=20, curve_steps=(10, 20), curve_accuracy=(0.5, 0.6))


def test_a_level_is_reached_when_it_is_first_seen_and_never_after_the_last_common_step() -> None:
    assert steps_to(0.95)(LONG, 40) == 20
    assert steps_to(0.97)(LONG, 40) == 40
    assert steps_to(0.97)(LONG, 20) == float("inf")
    assert steps_to(0.97)(replace(LONG, curve_steps=(), curve_accuracy=()), 40) is None
    steps = pair([LONG], [SHORT], steps_to(0.97), "steps", 0.1)
    assert steps is not None
    assert (steps.x[0], steps.y[0], steps.cap) == (float("inf"), float("inf"), 20)


def test_accuracies_after_different_numbers_of_steps_are_not_compared() -> None:
    assert pair([LONG], [SHORT], accuracy, "points", 0.1) is None
    gap = pair([LONG], [replace(LONG, train_accuracy=0.99)], small_gap, "points", 0.1)
    assert gap is not None
    assert gap.gain[0] == pytest.approx(0.04)


def test_only_seeds_that_both_have_are_paired() -> None:
    x, y = ([replace(LONG, seed=s) for s in seeds] for seeds in ((1, 2, 3), (3, 2, 7)))
    both = pair(x, y, accuracy, "points", 0.1)
    assert both is not None
    assert both.seeds.tolist() == [2, 3]


def test_gradients_are_apart_in_either_direction_and_those_that_are_lost_are_left_out() -> None:
    assert imbalance(LONG, 40) == pytest.approx(2.0)
    for lost in (None, 0.0):
        assert imbalance(replace(LONG, gradient_ratio=(lost, 2.0)), 40) is None
    assert shifted("gradient_change")(LONG, 40) is None


def test_a_usable_rate_may_lie_above_the_best_one() -> None:
    assert usable_rate({1e-3: 0.970, 3e-3: 0.975, 1e-2: 0.975 - USABLE, 1e-1: 0.5}) == 1e-2


def test_rates_of_a_seed_in_both_optimizers_are_one_number() -> None:
    trained = Trained(Synthetic().study())
    assert usable_rates(trained, "none", ["adam"]).keys() == {0, 1, 2, 3}
    both = usable_rates(trained, "none", ["adam", "sgd"])
    assert both.keys() == set(range(8))
    assert [1 / rate for rate in both.values()] == pytest.approx([RATES[3]] * 8)
