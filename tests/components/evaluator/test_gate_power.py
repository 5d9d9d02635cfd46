"""How often the gate is wrong, by simulation: a thousand evaluations of known truth each."""

from typing import get_args

import numpy as np
import pytest

from components.evaluator.gate import decide
from components.evaluator.params import Params, RuleName
from tests.components.evaluator.simulated import evaluations

DRAWS = 1000
PARAMS = Params(resamples=1000)
# A thousand draws tell a rate apart from another within three standard errors.
SLACK_OF_LEVEL = 3 * np.sqrt(PARAMS.level * (1 - PARAMS.level) / DRAWS)
NOT_THE_MARGIN = tuple(name for name in get_args(RuleName) if name != "baseline_non_inferior")


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


@pytest.mark.parametrize(("images", "discordance"), [(300, 0.011), (1000, 0.015), (10_000, 0.03)])
def test_a_model_worse_by_the_margin_passes_at_most_at_the_stated_level(images, discordance):
    # Against the margin alone: without the tests that would find this loss anyway, and without
    # floors. The fewer images, the fewer that set the two apart: the bound must keep its width.
    params = Params(resamples=500, off=NOT_THE_MARGIN)
    found = evaluations(DRAWS, images, accuracy=0.985, discordance=discordance, loss=params.margin)
    passed = float(np.mean([decide(evidence, params).passed for evidence in found]))
    assert passed <= params.level + SLACK_OF_LEVEL


def test_a_model_that_is_better_is_hardly_ever_blocked():
    assert blocked(discordance=0.021, loss=-0.003) <= 0.01


def test_a_loss_on_one_class_alone_is_caught():
    assert blocked(discordance=0.021, class_loss=0.05) >= 0.9
