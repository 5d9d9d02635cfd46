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


# MNIST's two networks differ on 2.1 % of the test images.
TRUTHS = pytest.mark.parametrize(
    ("discordance", "champion"),
    [(0.021, False), (0.021, True), (0.03, True)],
    ids=["baseline", "baseline and champion", "more discordance"],
)


@TRUTHS
def test_an_equal_model_is_blocked_at_most_at_the_stated_level(discordance, champion):
    rate = blocked(discordance=discordance, champion=champion)
    assert rate <= PARAMS.level, f"{rate:.1%} of equal models are blocked"


@TRUTHS
def test_a_model_worse_by_half_a_point_is_caught_with_the_stated_power(discordance, champion):
    rate = blocked(discordance=discordance, loss=0.005, champion=champion, seed=1)
    assert rate >= PARAMS.power, f"{rate:.1%} of models worse by half a point are caught"


@pytest.mark.parametrize(("images", "discordance"), [(300, 0.011), (1000, 0.015), (10_000, 0.03)])
def test_a_model_worse_by_the_margin_passes_at_most_at_the_stated_level(images, discordance):
    # Against the margin alone: without the tests that would find this loss anyway, and without
    # floors. The fewer images, the fewer that set the two apart: the bound must keep its width.
    params = Params(resamples=500, off=NOT_THE_MARGIN)
    found = evaluations(DRAWS, images, accuracy=0.985, discordance=discordance, loss=params.margin)
    passed = float(np.mean([decide(evidence, params).passed for evidence in found]))
    assert passed <= params.level + SLACK_OF_LEVEL


def test_a_model_that_is_better_is_hardly_ever_blocked():
    rate = blocked(discordance=0.021, loss=-0.003)
    assert rate <= 0.01, f"{rate:.1%} of better models are blocked"


def test_a_loss_on_one_class_alone_is_caught():
    rate = blocked(discordance=0.021, class_loss=0.05)
    assert rate >= 0.9, f"{rate:.1%} are caught"


@pytest.mark.parametrize(("margin", "crossed"), [(0.0, True), (0.02, True), (0.02, False)])
def test_a_loss_of_the_slice_margin_on_every_slice_is_no_error_above_the_stated_level(
    margin, crossed
):
    # Against the slices alone, at the edge of what they tolerate.
    only_slices = tuple(name for name in get_args(RuleName) if name != "baseline_slices")
    params = Params(slice_margin=margin, judge_crossed_slices=crossed, off=only_slices)
    found = evaluations(300, 10_000, accuracy=0.975, discordance=margin + 0.015, loss=margin)
    rate = float(np.mean([not decide(evidence, params).passed for evidence in found]))
    slack = 3 * np.sqrt(params.slices_level / 300)
    assert rate <= params.slices_level + slack, f"{rate:.1%} are blocked"
