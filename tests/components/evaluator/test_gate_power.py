"""How often the gate is wrong, by simulation of evaluations whose truth is known.

The quick suite draws a quarter of the thousand that `slow` draws, from the same seeds.
"""

import numpy as np
import pytest

from bnpipe.components.evaluator.gate import decide
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.rules import RULES
from tests.components.evaluator.simulated import at, evaluations

DRAWS = pytest.mark.parametrize("draws", [250, pytest.param(1000, marks=pytest.mark.slow)])
# The bootstrap speaks in the rule about the margin alone, which has a test of its own.
PARAMS = Params(resamples=200)
NOT_THE_MARGIN = tuple(name for name in RULES if name != "baseline_non_inferior")


def slack(level: float, draws: int) -> float:
    """So much above a level may a rate be by chance: three standard errors."""
    return 3 * np.sqrt(level * (1 - level) / draws)


def blocked(draws: int, **truth: float) -> float:
    """The share of simulated evaluations of 10,000 images that the gate does not bless."""
    found = evaluations(draws, 10_000, accuracy=0.975, **truth)
    return float(np.mean([not decide(evidence, PARAMS).passed for evidence in found]))


# MNIST's two networks differ on 2.1 % of the test images.
TRUTHS = pytest.mark.parametrize(
    ("discordance", "champion"),
    [(0.021, False), (0.021, True), (0.03, True)],
    ids=["baseline", "baseline and champion", "more discordance"],
)


@DRAWS
@TRUTHS
def test_an_equal_model_is_blocked_at_most_at_the_stated_level(draws, discordance, champion):
    rate = blocked(draws, discordance=discordance, champion=champion)
    assert rate <= PARAMS.level, f"{rate:.1%} of equal models are blocked"


@DRAWS
@TRUTHS
def test_a_model_worse_by_half_a_point_is_caught_with_the_stated_power(
    draws, discordance, champion
):
    rate = blocked(draws, discordance=discordance, loss=0.005, champion=champion, seed=1)
    assert rate >= PARAMS.power, f"{rate:.1%} of models worse by half a point are caught"


@DRAWS
@pytest.mark.parametrize(("images", "discordance"), [(300, 0.011), (1000, 0.015), (10_000, 0.03)])
def test_a_model_worse_by_the_margin_passes_at_most_at_the_stated_level(draws, images, discordance):
    # Against the margin alone: without the tests that would find this loss anyway, and without
    # floors. The fewer images, the fewer that set the two apart: the bound must keep its width.
    params = Params(resamples=500, rules=at("off", *NOT_THE_MARGIN))
    found = evaluations(draws, images, accuracy=0.985, discordance=discordance, loss=params.margin)
    passed = float(np.mean([decide(evidence, params).passed for evidence in found]))
    assert passed <= params.level + slack(params.level, draws)


@DRAWS
def test_a_model_that_is_better_is_hardly_ever_blocked(draws):
    rate = blocked(draws, discordance=0.021, loss=-0.003)
    assert rate <= 0.01, f"{rate:.1%} of better models are blocked"


@DRAWS
def test_a_loss_on_one_class_alone_is_caught(draws):
    rate = blocked(draws, discordance=0.021, class_loss=0.05)
    assert rate >= 0.9, f"{rate:.1%} are caught"


@DRAWS
@pytest.mark.parametrize(("margin", "crossed"), [(0.0, True), (0.02, True), (0.02, False)])
def test_a_loss_of_the_slice_margin_on_every_slice_is_no_error_above_the_stated_level(
    draws, margin, crossed
):
    # Against the slices alone, at the edge of what they tolerate.
    only_slices = at("off", *(name for name in RULES if name != "baseline_slices"))
    params = Params(slice_margin=margin, judge_crossed_slices=crossed, rules=only_slices)
    found = evaluations(draws, 10_000, accuracy=0.975, discordance=margin + 0.015, loss=margin)
    rate = float(np.mean([not decide(evidence, params).passed for evidence in found]))
    most = params.slices_level + slack(params.slices_level, draws)
    assert rate <= most, f"{rate:.1%} are blocked"
