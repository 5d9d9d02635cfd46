"""The data gate: each check is tripped by data that has its fault, and by that data only."""

import ast
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from bnpipe.components.base import Decision, Ruling
from bnpipe.components.example_validator import record_checks
from bnpipe.components.example_validator.anomalies import anomalies
from bnpipe.components.example_validator.gate import CHECKS, DRIFT_CHECKS, decide
from bnpipe.components.example_validator.params import Checks
from bnpipe.components.example_validator.profile import Profile
from tests.components.example_validator.validator_data import (
    INFO,
    Columns,
    healthy,
    profile,
    records,
    summary,
)
from tests.components.example_validator.validator_faults import (
    FAULTS,
    Fault,
    Splits,
    leaked,
    repeated,
    without_sevens,
)


def check(decision: Decision, name: str) -> Ruling:
    (found,) = [c for c in decision.rulings if c.name == name]
    return found


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check}-{fault.code}")
def test_a_fault_is_found_with_its_sentence_and_code(fault: Fault) -> None:
    seen = fault.make()
    decision = decide(seen)
    found = check(decision, fault.check)
    assert found.outcome == fault.outcome
    assert decision.passed == (fault.outcome == "warn")
    assert fault.sentence in found.sentence
    told = [anomalies(split, decision.observations, seen) for split in seen.splits]
    severity = {"block": anomalies_pb2.AnomalyInfo.ERROR, "warn": anomalies_pb2.AnomalyInfo.WARNING}
    reasons = [
        anomalies_pb2.AnomalyInfo.Type.Name(reason.type)
        for proto in told
        for info in (*proto.anomaly_info.values(), proto.dataset_anomaly_info)
        for reason in info.reason
        if reason.description == found.sentence and info.severity == severity[fault.outcome]
    ]
    assert fault.code in reasons


def test_every_check_of_the_config_is_made_and_has_a_fault_that_trips_it() -> None:
    assert [field.name for field in fields(Checks)] == list(CHECKS)
    assert set(CHECKS) == {fault.check for fault in FAULTS}


def test_every_anomaly_code_of_every_family_of_checks_has_a_fault_that_trips_it() -> None:
    known = set(anomalies_pb2.AnomalyInfo.Type.keys())
    given = {
        (path.stem, node.value)
        for path in Path(record_checks.__file__).parent.glob("*_checks.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in known
    }
    assert ("record_checks", "SCHEMA_NEW_COLUMN") in given
    tripped = {(CHECKS[f.check].__module__.rpartition(".")[2], f.code) for f in FAULTS}
    assert given == tripped


def test_healthy_data_passes_without_a_warning() -> None:
    splits = healthy()
    decision = decide(profile(splits, champion=summary(splits["train"])))
    assert decision.passed
    assert decision.sentence == "data passed: 550 images of rendered_digits, 17 checks"
    assert {c.outcome for c in decision.rulings} == {"ok"}


def test_without_a_champion_the_splits_are_compared_with_train() -> None:
    decision = decide(profile(healthy()))
    for name in DRIFT_CHECKS:
        assert check(decision, name).outcome == "ok"
        assert "train" in check(decision, name).sentence
        assert "champion" not in check(decision, name).sentence


def test_an_absent_class_is_the_verdict_in_one_sentence() -> None:
    decision = decide(profile(without_sevens(healthy())))
    assert decision.sentence == "data blocked: label 7 has no examples in train"


def test_classes_that_are_declared_but_occur_nowhere_are_warned_of() -> None:
    info = replace(INFO, label_names=tuple(map(str, range(14))))
    splits = healthy()
    decision = decide(profile(splits, info=info))
    assert decision.passed
    sentence = "4 of 14 classes occur nowhere: label 10, label 11, label 12, ..."
    assert check(decision, "classes").sentence == sentence
    assert check(decision, "classes").outcome == "warn"
    # The champion's data had them: then they are gone.
    before = dict(splits["train"], label=splits["train"]["label"] + 4)
    champion = summary(before, info=info)
    assert (
        "has no examples in train"
        in check(decide(profile(splits, info=info, champion=champion)), "classes").sentence
    )


def test_statistics_that_are_not_kept_by_class_are_not_compared_by_class() -> None:
    splits = healthy()
    seen = profile(splits, champion=summary(splits["train"]))
    for of in (seen.champion, *(part.summary for part in seen.parts)):
        for name in ("class_drawn", "class_steps", "class_squares"):
            setattr(of, name, np.zeros_like(getattr(of, name)))
    assert check(decide(seen), "class_statistics").outcome == "not checked"


def test_several_faults_are_all_named() -> None:
    decision = decide(profile(leaked(repeated(healthy()))))
    assert decision.sentence.endswith("(also: leak)")


@pytest.mark.parametrize(
    "fault",
    [f for f in FAULTS if f.outcome == "block"],
    ids=lambda fault: f"{fault.check}-{fault.code}",
)
def test_a_check_may_only_warn_or_be_off(fault: Fault) -> None:
    name = fault.check
    before = {c.name for c in decide(fault.make()).rulings if c.outcome == "block"}
    warned = decide(fault.make(**{name: "warn"}))
    assert (check(warned, name).outcome, check(warned, name).level) == ("warn", "warn")
    assert {c.name for c in warned.rulings if c.outcome == "block"} == before - {name}
    switched_off = decide(fault.make(**{name: "off"}))
    assert check(switched_off, name).outcome == "off"
    if before == {name}:
        assert warned.passed
        assert switched_off.passed
        assert name in warned.sentence


def test_a_few_faults_warn_where_a_few_are_tolerated() -> None:
    splits = healthy()
    splits["train"]["image"][0] = splits["train"]["image"][1]
    splits["train"]["label"][0] = splits["train"]["label"][1]
    splits["train"]["image"][2] = 7
    decision = decide(profile(splits))
    assert decision.passed
    assert decision.sentence.endswith("warned of constant_images, duplicates")


def test_a_class_that_chance_left_out_of_a_small_split_is_warned_of() -> None:
    splits = healthy()
    labels = splits["validation"]["label"]
    labels[labels == 7] = 1
    decision = decide(profile(splits))
    assert decision.passed
    assert check(decision, "classes").sentence == "label 7 has no examples in validation"


def test_a_test_split_of_other_shares_than_train_is_no_fault() -> None:
    splits = healthy()
    rare = np.flatnonzero(splits["test"]["label"] == 7)[1:]
    splits["test"]["label"][rare] = 1
    decision = decide(profile(splits))
    assert check(decision, "classes").outcome == "ok"


def test_as_many_examples_as_the_champion_had() -> None:
    splits = healthy()
    decision = decide(profile(splits, champion=summary(splits["train"])))
    assert check(decision, "count").outcome == "ok"


def test_a_shrinking_data_set_is_warned_of_before_it_blocks() -> None:
    splits = healthy()
    champion = summary(splits["train"], {k: c[:200] for k, c in splits["train"].items()})
    assert check(decide(profile(splits, champion=champion)), "count").outcome == "warn"


def shifted_labels(share: float) -> tuple[Splits, Any]:
    splits = healthy()
    champion = summary(splits["train"])
    labels = splits["train"]["label"]
    labels[np.random.default_rng(0).random(len(labels)) < share] = 3
    return splits, champion


def test_a_label_that_takes_over_blocks_and_is_measured_in_the_proto() -> None:
    splits, champion = shifted_labels(0.5)
    seen = profile(splits, champion=champion)
    decision = decide(seen)
    for name in ("label_drift", "label_divergence"):
        assert check(decision, name).outcome == "block"
    assert "label 3 makes up" in check(decision, "label_drift").sentence
    (drift,) = anomalies("train", decision.observations, seen).drift_skew_info
    assert list(drift.path.step) == ["label"]
    for measured, name in zip(drift.drift_measurements, CHECKS_OF_LABELS, strict=True):
        assert measured.value == pytest.approx(check(decision, name).value)
        assert measured.threshold == pytest.approx(check(decision, name).bound)


CHECKS_OF_LABELS = ("label_drift", "label_divergence")


def test_a_little_drift_of_labels_is_warned_of() -> None:
    splits, champion = shifted_labels(0.15)
    decision = decide(profile(splits, champion=champion))
    assert decision.passed
    assert check(decision, "label_drift").outcome == "warn"


def test_a_champion_with_fewer_classes_can_be_compared() -> None:
    splits = healthy()
    few = {k: c[splits["train"]["label"] < 5] for k, c in splits["train"].items()}
    five = replace(INFO, label_names=INFO.label_names[:5])
    decision = decide(profile(splits, champion=summary(few, info=five)))
    assert check(decision, "label_divergence").outcome == "block"


def test_an_empty_split_blocks() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    splits["test"] = []
    decision = decide(profile(splits))
    assert decision.sentence == "data blocked: test has 0 examples, expected 1 or more"


def test_an_empty_train_split_blocks() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    splits["train"] = []
    seen: Profile = profile(splits)
    decision = decide(seen)
    assert not decision.passed
    assert check(decision, "count").outcome == "block"
    assert anomalies("train", decision.observations, seen).data_missing


def test_named_classes_are_called_by_name() -> None:
    names = tuple(f"animal {i}" for i in range(10))
    info = replace(INFO, label_names=names)
    decision = decide(profile(without_sevens(healthy()), info=info))
    assert decision.sentence == "data blocked: label 7 (animal 7) has no examples in train"


def test_images_of_one_batch_and_of_many_are_judged_alike() -> None:
    splits = healthy()
    parts = [{k: c[i::3] for k, c in splits["train"].items()} for i in range(3)]
    assert decide(profile(splits | {"train": parts})) == decide(profile(splits))


def test_records_of_mixed_kinds_are_counted() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    odd = records(np.zeros((3, 28, 28), np.float32), np.zeros(3, np.int64))
    splits["train"] = [healthy()["train"], odd]
    found = check(decide(profile(splits)), "types")
    assert found.outcome == "block"
    assert found.sentence == "3 records in train have image as float, expected bytes"
