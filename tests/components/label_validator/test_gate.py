"""What stops a run: a share of wrong labels that is shown to be too large, and nothing else."""

import numpy as np
import pytest

from bnpipe.components.label_validator.gate import Part, decide
from bnpipe.components.label_validator.params import Checks, Params

OWN = Part("train/base", 55_000, 0.003)


def span(share, images=300):
    return Part("train/span-7", images, share, OWN)


def test_sound_labels_are_blocked_in_none_of_1000_resamples():
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(1000):
        parts = [
            Part("train/span-7", 300, rng.binomial(300, 0.003) / 300, OWN),
            Part("test/base", 10_000, rng.binomial(10_000, 0.003) / 10_000, OWN),
        ]
        outcomes |= {ruling.outcome for ruling in decide([OWN, *parts], Params()).rulings}
    assert outcomes == {"ok"}


@pytest.mark.parametrize("share", [0.09, 0.9])
def test_a_span_with_permuted_labels_is_blocked_in_one_line(share):
    decision = decide([OWN, span(0.0, 200), span(share)], Params())
    assert not decision.passed
    assert "\n" not in decision.sentence
    for words in (
        f"about {share:.1%} of the labels of 300 images in train/span-7 are wrong",
        "0.3% in train/base",
        "bnpipe report",
        "--set label_validator.checks.part_labels=warn (or off)",
    ):
        assert words in decision.sentence


def test_what_is_not_shown_does_not_block():
    assert decide([OWN, span(0.05, 40)], Params()).passed
    assert decide([OWN, span(0.02, 3000)], Params()).passed
    warned = decide([OWN, span(0.015, 3000)], Params())
    assert warned.passed
    assert warned.sentence.endswith("warned of part_labels")


def test_own_labels_are_judged_alone():
    assert not decide([Part("train", 1000, 0.5)], Params()).passed
    assert decide([Part("train", 1000, 0.25)], Params()).rulings[0].outcome == "warn"
    assert decide([Part("train", 1000, 0.04)], Params()).rulings[0].outcome == "ok"


def test_a_check_can_only_warn_or_be_off_and_without_parts_nothing_is_checked():
    for level in ("warn", "off"):
        decision = decide([OWN, span(0.9)], Params(checks=Checks(part_labels=level)))
        assert decision.passed
        assert decision.rulings[1].outcome == level
    assert decide([], Params()).sentence == "labels not checked"
    assert {r.outcome for r in decide([], Params()).rulings} == {"not checked"}
