"""What stops a run: a share of wrong labels that is shown to be too large, and nothing else."""

import numpy as np
import pytest

from bnpipe.components.label_validator.answer_drift import LEVEL, AnswerDrift
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
    assert outcomes == {"ok", "not checked"}  # nobody has answered for the champion


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
    for share, outcome in ((0.25, "warn"), (0.04, "ok")):
        rulings = {r.name: r for r in decide([Part("train", 1000, share)], Params()).rulings}
        assert rulings["own_labels"].outcome == outcome


def test_where_a_bad_span_spoils_what_is_learned_the_span_is_named_and_one_hint_is_enough():
    decision = decide([Part("train/base", 2302, 0.5), span(0.99, 2500)], Params())
    assert decision.sentence.startswith("labels blocked: about 99.0% of the labels")
    assert "in train/span-7 are wrong" in decision.sentence
    hint = (
        "--set label_validator.checks.part_labels=warn --set label_validator.checks.own_labels=warn"
    )
    assert hint in decision.sentence


def test_a_check_can_only_warn_or_be_off_and_without_parts_nothing_is_checked():
    for level in ("warn", "off"):
        decision = decide([OWN, span(0.9)], Params(checks=Checks(part_labels=level)))
        assert decision.passed
        assert decision.rulings[0].outcome == level
    assert decide([], Params(), why_not="so").sentence == "labels not checked: so"
    assert {r.outcome for r in decide([], Params()).rulings} == {"not checked"}


@pytest.mark.parametrize(("power", "outcome"), [("warn", "warn"), ("block", "block")])
def test_answers_that_differ_are_warned_of_by_the_span(power, outcome):
    drifts = {
        "span-6": AnswerDrift(0.2, False, "nothing differs"),
        "span-7": AnswerDrift(1e-9, True, "confidence differs most"),
    }
    decision = decide([OWN], Params(checks=Checks(answer_drift=power)), drifts)
    ruling = next(r for r in decision.rulings if r.name == "answer_drift")
    assert ruling.outcome == outcome and decision.passed == (outcome == "warn")
    assert ruling.sentence == "of the champion's answers in span-7, confidence differs most"
    assert "answer_drift" in decision.sentence


def test_one_of_many_spans_differs_by_chance():
    drifts = {f"span-{n}": AnswerDrift(LEVEL / 2, True, "by chance") for n in range(10)}
    outcomes = {r.name: r.outcome for r in decide([OWN], Params(), drifts).rulings}
    assert outcomes["answer_drift"] == "ok"
    assert decide([OWN], Params()).rulings[-1].outcome == "not checked"
