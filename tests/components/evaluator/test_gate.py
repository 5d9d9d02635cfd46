import dataclasses
import json

import numpy as np
import pytest

from bnpipe.components.base import Decision
from bnpipe.components.evaluator.evidence import BASELINE, CHAMPION, Evidence, Pair, SliceEvidence
from bnpipe.components.evaluator.gate import decide
from bnpipe.components.evaluator.params import Params, Rules
from bnpipe.components.evaluator.rules import RULES
from tests.components.evaluator.simulated import at, sound

MNIST_LIKE = Pair(only_candidate=118, only_reference=90)
EVEN = Pair(only_candidate=10, only_reference=9)


def part(name="overall", columns=(), images=10_000, correct=9782, pair=MNIST_LIKE, **more):
    return SliceEvidence(name, columns, images, correct, {BASELINE: pair, **more})


def label(k, images=1000, correct=975, pair=EVEN, **more):
    return part(f"label:{k}", ("label",), images, correct, pair, **more)


INK = part("ink_quartile:0", ("ink_quartile",), 2500, 2440, EVEN, champion=EVEN)


def healthy(**changes) -> Evidence:
    slices = changes.pop("slices", tuple(map(label, range(10))))
    return dataclasses.replace(sound(part(), *slices, INK), **changes)


def rule(decision: Decision, name: str):
    return next(found for found in decision.rulings if found.name == name)


def test_a_healthy_candidate_is_blessed_in_one_sentence_with_numbers():
    decision = decide(healthy(), Params())
    assert decision.passed
    assert decision.sentence == (
        "blessed: accuracy 0.9782 (95 % at least 0.9756), +0.28 points against the network "
        "without batch normalisation, no champion yet"
    )


def test_every_rule_is_reported_whether_it_passed_or_not():
    decision = decide(healthy(calibration_bound=0.2), Params())
    assert [found.name for found in decision.rulings] == ["usable_models", *RULES]
    assert [field.name for field in dataclasses.fields(Rules)] == list(RULES)
    assert not decision.passed
    assert decision.sentence.startswith("not blessed: expected calibration error")


def test_below_the_floor_the_sentence_names_accuracy_floor_and_bound():
    decision = decide(healthy(overall=part(correct=9312)), Params())
    assert decision.sentence == (
        "not blessed: accuracy 0.9312 is below the floor 0.96 (lower bound 0.9269)"
    )


def test_an_accuracy_above_the_floor_is_not_enough_without_images_to_show_it():
    few = part(images=100, correct=97, pair=Pair(1, 1))
    decision = decide(healthy(overall=few), Params())
    found = rule(decision, "accuracy_floor")
    assert found.outcome == "block"
    assert "0.9700 is not shown to reach the floor 0.96 by 100 images" in found.sentence


def test_the_worst_class_is_named():
    weak = label(8, correct=840)
    evidence = healthy(slices=(label(0), weak, label(9)))
    assert "label:8 is the weakest of 3" in decide(evidence, Params()).sentence


def test_a_loss_that_cannot_be_ruled_out_is_inferior():
    decision = decide(healthy(overall=part(pair=Pair(600, 650))), Params())
    assert rule(decision, "baseline_non_inferior").outcome == "block"
    assert rule(decision, "baseline_not_worse").outcome == "ok"


def test_a_small_sure_loss_is_significantly_worse_though_non_inferior():
    decision = decide(healthy(overall=part(pair=Pair(60, 110))), Params())
    assert rule(decision, "baseline_non_inferior").outcome == "ok"
    assert rule(decision, "baseline_not_worse").outcome == "block"
    assert "-0.50 points is significantly worse" in decision.sentence


def test_one_slice_that_is_much_worse_blocks():
    hurt = label(3, pair=Pair(2, 40))
    decision = decide(healthy(slices=(*map(label, range(3)), hurt)), Params())
    assert rule(decision, "baseline_slices").outcome == "block"
    assert "label:3 is shown to be worse than the network without batch norm" in decision.sentence


def test_a_loss_on_a_slice_that_another_seed_would_also_bring_does_not_block():
    traded = label(8, images=974, correct=932, pair=Pair(4, 23))  # two seeds on MNIST
    decision = decide(healthy(slices=(*map(label, range(8)), traded)), Params())
    found = rule(decision, "baseline_slices")
    assert found.outcome == "ok"
    assert "none of 10 slices is shown to be worse" in found.sentence
    assert "strongest sign: label:8 with -1.95 points on 974 images" in found.sentence
    strict = rule(decide(healthy(slices=(traded,)), Params(slice_margin=0.0)), "baseline_slices")
    assert strict.outcome == "block"


def test_crossed_slices_are_judged_or_the_verdict_says_that_they_are_not():
    crossed = part("ink_quartile_X_label:0_X_3", ("ink_quartile", "label"), 300, 250, Pair(1, 50))
    evidence = healthy(slices=(*map(label, range(10)), crossed))
    found = rule(decide(evidence, Params()), "baseline_slices")
    assert found.sentence.startswith("ink_quartile:0 x label:3 is shown to be worse than")
    off = rule(decide(evidence, Params(judge_crossed_slices=False)), "baseline_slices")
    assert off.outcome == "ok"
    assert off.sentence.endswith("; 1 crossed slices are reported, not judged")


def test_a_slice_that_is_unlucky_among_many_does_not_block():
    unlucky = label(3, pair=Pair(4, 13))  # p = 0.025 by itself
    decision = decide(healthy(slices=(*map(label, range(3)), unlucky)), Params())
    assert rule(decision, "baseline_slices").outcome == "ok"


def test_without_a_champion_nothing_is_checked_against_one():
    decision = decide(healthy(), Params())
    found = rule(decision, "champion_non_inferior")
    assert found.outcome == "not checked"
    assert found.sentence == "nothing is served yet, so there is no champion to compare with"
    assert decision.passed


def test_the_champion_is_held_against_like_the_baseline():
    overall = part(champion=Pair(10, 300))
    slices = [dataclasses.replace(label(k), against={CHAMPION: Pair(1, 1)}) for k in range(2)]
    evidence = healthy(overall=overall, slices=tuple(slices), champion="version 3")
    decision = decide(evidence, Params(rules=Rules(baseline_slices="off")))
    assert not decision.passed
    assert "against the champion (version 3)" in decision.sentence


def test_a_champion_that_cannot_be_used_blocks_and_the_sentence_says_how_to_go_on():
    evidence = healthy(problems={CHAMPION: "it answers for 47 classes"}, champion="version 3")
    decision = decide(evidence, Params(rules=Rules(slice_floor="off")))
    assert decision.sentence == (
        "not blessed: the champion (version 3) cannot be used: it answers for 47 classes; to judge "
        "without it: bnpipe run --set evaluator.rules.usable_champion=off"
    )
    assert rule(decision, "champion_not_worse").outcome == "not checked"


@pytest.mark.parametrize("choice", ["off", "warn"])
def test_config_can_judge_without_a_champion_that_cannot_be_used_and_that_is_told(choice):
    evidence = healthy(problems={CHAMPION: "it answers for 47 classes"}, champion="version 3")
    decision = decide(evidence, Params(rules=Rules(usable_champion=choice)))
    assert decision.passed
    told = "not compared with the champion (version 3): it answers for 47 classes"
    warned = {"off": "", "warn": ", warned of usable_champion"}[choice]
    assert decision.sentence.endswith(told + warned)
    outcomes = {found.name: found.outcome for found in decision.rulings}
    assert outcomes["usable_champion"] == choice
    assert outcomes["champion_non_inferior"] == "not checked"
    assert outcomes["baseline_non_inferior"] == "ok"


def test_a_champion_is_named_in_the_verdict_with_its_version():
    overall = part(champion=Pair(40, 30))
    slices = [label(k, champion=EVEN) for k in range(10)]
    decision = decide(
        healthy(overall=overall, slices=tuple(slices), champion="version 3"), Params()
    )
    assert decision.sentence.endswith(", +0.10 points against version 3")


def test_a_missing_baseline_blocks():
    evidence = healthy(
        overall=dataclasses.replace(part(), against={}), problems={BASELINE: "there is none"}
    )
    decision = decide(evidence, Params())
    assert not decision.passed
    assert rule(decision, "baseline_not_worse").outcome == "block"


def test_a_candidate_without_answers_blocks_and_the_rest_is_not_checked():
    nan = "its answers are not finite numbers (NaN or infinite) for 3 of 10 images"
    decision = decide(Evidence(overall=None, problems={"candidate": nan}), Params())
    assert decision.sentence == f"not blessed: the candidate cannot be used: {nan}"
    assert {found.outcome for found in decision.rulings[1:]} == {"not checked"}


def test_no_rule_switched_on_is_not_a_pass():
    decision = decide(healthy(), Params(rules=at("off", *RULES)))
    assert not decision.passed
    assert decision.sentence.endswith("so nothing was decided")


def test_sound_evidence_alone_blesses_nothing():
    sound_only = {"no_empty_slice", "batch_invariance", "tfma_validation"}
    off = tuple(name for name in RULES if name not in sound_only)
    assert not decide(healthy(), Params(rules=at("off", *off))).passed


def test_rules_that_only_warn_cannot_bless_either():
    assert not decide(healthy(), Params(rules=at("warn", *RULES))).passed


FREE = {
    "min_accuracy": 0.0,
    "min_class_accuracy": 0.0,
    "min_slice_accuracy": 0.0,
    "margin": 0.99,
    "slice_margin": 1.0,
    "max_calibration_error": 1.0,
    "batch_tolerance": 1.0,
}
BEYOND_CONFIG = at("off", "baseline_not_worse", "champion_not_worse")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("min_accuracy", "accuracy_floor"),
        ("min_class_accuracy", "worst_class"),
        ("min_slice_accuracy", "slice_floor"),
        ("margin", "baseline_non_inferior"),
        ("slice_margin", "baseline_slices"),
        ("max_calibration_error", "calibration"),
        ("batch_tolerance", "batch_invariance"),
    ],
)
def test_a_threshold_that_every_model_meets_counts_as_off(field, name):
    found = rule(decide(healthy(), Params(**{field: FREE[field]})), name)
    assert (found.level, found.outcome) == ("block", "off")
    assert found.sentence.startswith("counts as switched off: ")


def test_thresholds_that_every_model_meets_are_no_thresholds():
    decision = decide(healthy(), Params(**FREE, rules=BEYOND_CONFIG))
    assert decision.sentence.startswith(
        "not blessed: no rule about quality is switched on that could block (accuracy_floor counts "
        "as switched off: a model that ignores the images reaches 0.1000, the floor is 0)"
    )


@pytest.mark.parametrize("floor", [0.05, 0.1])
def test_a_floor_that_guessing_reaches_is_none(floor):
    assert not decide(
        healthy(), Params(**{**FREE, "min_accuracy": floor}, rules=BEYOND_CONFIG)
    ).passed
    assert decide(healthy(), Params(**{**FREE, "min_accuracy": 0.11}, rules=BEYOND_CONFIG)).passed


def test_calibration_alone_is_not_a_gate():
    off = tuple(name for name in RULES if name != "calibration")
    assert not decide(healthy(), Params(rules=at("off", *off))).passed


def test_a_significance_test_on_a_handful_of_images_is_not_a_gate():
    few = part(images=4, correct=4, pair=Pair(0, 0))
    off = tuple(name for name in RULES if name != "baseline_not_worse")
    decision = decide(healthy(overall=few, slices=()), Params(rules=at("off", *off)))
    assert not decision.passed
    assert rule(decision, "baseline_not_worse").outcome == "off"
    assert decide(healthy(), Params(rules=at("off", *off))).passed


def test_a_hollow_threshold_still_blocks_where_it_is_missed():
    evidence = healthy(batch_difference=float("nan"))
    found = rule(decide(evidence, Params(batch_tolerance=1.0)), "batch_invariance")
    assert found.outcome == "block"


def test_a_warning_is_listed_and_does_not_block():
    decision = decide(healthy(calibration_bound=0.2), Params(rules=Rules(calibration="warn")))
    assert decision.passed
    assert rule(decision, "calibration").outcome == "warn"
    assert decision.sentence.endswith(", warned of calibration")


def test_a_rule_that_is_off_is_listed_as_off():
    decision = decide(healthy(calibration_bound=0.2), Params(rules=Rules(calibration="off")))
    assert decision.passed
    assert rule(decision, "calibration").outcome == "off"


def test_an_empty_class_blocks():
    decision = decide(healthy(slices=(label(0), label(1, 0, 0, Pair(0, 0)))), Params())
    assert "no image to judge by in 1 slices (label:1)" in decision.sentence
    worst = rule(decision, "worst_class")
    assert worst.outcome == "block"
    assert worst.sentence == "label:1 has no image that could show the floor 0.85"


def test_what_rounding_does_to_large_numbers_is_no_dependence_on_the_batch():
    """A learning rate of 1 makes logits of thousands."""
    assert decide(healthy(batch_difference=3e-4, rounding=1e-3), Params()).passed
    assert not decide(healthy(batch_difference=3e-3, rounding=1e-3), Params()).passed


@pytest.mark.parametrize("field", ["calibration_bound", "batch_difference"])
def test_a_number_that_could_not_be_computed_blocks(field):
    decision = decide(healthy(**{field: float("nan")}), Params())
    assert not decision.passed
    json.dumps([found.to_json() for found in decision.rulings], allow_nan=False)


def test_answers_that_depend_on_the_batch_block_and_the_sentence_says_what_to_look_for():
    decision = decide(healthy(batch_difference=0.31), Params())
    assert "a row alone differs by 0.31" in decision.sentence
    assert "batch statistics at inference" in decision.sentence


def test_tfma_disagreeing_blocks():
    decision = decide(healthy(tfma_failures=("accuracy on overall: too low",)), Params())
    assert "TFMA's validation fails: accuracy on overall: too low" in decision.sentence


def test_the_same_evidence_gives_the_same_bytes():
    first, second = (decide(healthy(), Params()) for _ in range(2))
    assert [r.to_json() for r in first.rulings] == [r.to_json() for r in second.rulings]


def test_identical_models_pass():
    decision = decide(healthy(overall=part(pair=Pair(0, 0))), Params())
    assert decision.passed
    assert np.isclose(rule(decision, "baseline_not_worse").value, 1.0)


@pytest.mark.parametrize(
    ("name", "slices", "told"),
    [
        ("worst_class", (INK,), "no slices by label to judge: add label to"),
        ("slice_floor", (label(0),), "no slices by a column other than label to judge: add ink_q"),
        ("baseline_slices", (), "no slices by a single column to judge: add label to"),
    ],
)
def test_a_rule_without_slices_to_judge_fails_and_says_what_to_do(name, slices, told):
    evidence = sound(part(), *slices)
    found = rule(decide(evidence, Params()), name)
    assert found.outcome == "block"
    assert found.sentence.startswith(told)
    assert found.sentence.endswith(f"to evaluator.slices or set evaluator.rules.{name}=off")
    assert rule(decide(evidence, Params(rules=at("off", name))), name).outcome == "off"
    assert rule(decide(evidence, Params(rules=at("warn", name))), name).outcome == "warn"


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (Pair(118, 90), "; it is not shown to be better"),  # one-sided p 0.03, two-sided 0.06
        (Pair(125, 83), "; it is shown to be better"),
        (Pair(90, 118), "; it is not shown to be better"),
    ],
)
def test_the_sentence_says_whether_the_candidate_is_better(pair, told):
    found = rule(decide(healthy(overall=part(pair=pair)), Params()), "baseline_not_worse")
    assert found.sentence.endswith(told)


def test_two_references_share_the_error_level():
    params = Params()
    doubtful = Pair(30, 47)  # p = 0.034: below the whole level, above half of it
    alone = decide(healthy(overall=part(pair=doubtful)), params)
    assert rule(alone, "baseline_not_worse").outcome == "block"
    both = healthy(overall=part(pair=doubtful, champion=EVEN), slices=())
    found = rule(decide(both, params), "baseline_not_worse")
    assert found.outcome == "ok"
    assert found.bound == params.overall_level / 2
    assert rule(decide(both, params), "baseline_slices").bound == params.slices_level / 2
    off = Params(rules=at("off", "champion_not_worse", "champion_slices"))
    assert rule(decide(both, off), "baseline_not_worse").outcome == "block"
