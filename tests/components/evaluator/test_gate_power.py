"""How often the gate is wrong, by simulation: a thousand evaluations of known truth each."""

import numpy as np

from components.evaluator.gate import decide
from components.evaluator.params import Params
from tests.components.evaluator.simulated import evaluations

DRAWS = 1000
PARAMS = Params(resamples=1000)
# A thousand draws tell a rate apart from another within three standard errors.
SLACK = 3 * np.sqrt(0.25 / DRAWS) / 2


def blocked(**truth: float) -> float:
    """The share of simulated evaluations of 10,000 images that the gate does not bless."""
    found = evaluations(DRAWS, 10_000, accuracy=0.975, **truth)
    return float(np.mean([not decide(evidence, PARAMS).passed for evidence in found]))


def test_an_equal_model_is_blocked_at_most_at_the_stated_level():
    # MNIST's two networks differ on 2.1 % of the test images.
    assert blocked(discordance=0.021) <= PARAMS.level
    assert blocked(discordance=0.03, seed=1) <= PARAMS.level


def test_a_model_worse_by_half_a_point_is_caught_with_the_stated_power():
    assert blocked(discordance=0.021, loss=0.005) >= 0.9
    assert blocked(discordance=0.03, loss=0.005, seed=1) >= PARAMS.power


def test_a_model_worse_by_the_margin_passes_at_most_at_the_stated_level():
    # Against the margin alone: without the test that would find this loss anyway.
    params = Params(resamples=1000, off=("baseline_not_worse", "baseline_slices"))
    found = evaluations(DRAWS, 10_000, accuracy=0.985, discordance=0.03, loss=params.margin)
    passed = float(np.mean([decide(evidence, params).passed for evidence in found]))
    assert passed <= params.level + SLACK


def test_a_model_that_is_better_is_hardly_ever_blocked():
    assert blocked(discordance=0.021, loss=-0.003) <= 0.01


def test_a_loss_on_one_class_alone_is_caught():
    assert blocked(discordance=0.021, class_loss=0.05) >= 0.9
