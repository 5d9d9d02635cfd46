"""The data gate: each check is tripped by data that has its fault, and by that data only."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from tensorflow_metadata.proto.v0 import anomalies_pb2

from components.example_validator.anomalies import anomalies
from components.example_validator.findings import Evidence
from components.example_validator.gate import CHECKS, Check, Decision, decide
from components.example_validator.params import CheckName
from components.example_validator.split_checks import allowed_count, least_count
from tests.components.validator_data import INFO, Columns, evidence, healthy, records, summary

Splits = dict[str, Any]


def check(decision: Decision, name: str) -> Check:
    (found,) = [c for c in decision.checks if c.name == name]
    return found


def without_ids(splits: Splits) -> Splits:
    del splits["train"]["id"]
    return splits


def label_as_float(splits: Splits) -> Splits:
    splits["test"]["label"] = splits["test"]["label"].astype(np.float32)[:, None]
    return splits


def cropped(splits: Splits) -> Splits:
    splits["train"]["image"] = splits["train"]["image"][:, : 27 * 28]
    return splits


def with_nan(splits: Splits) -> Splits:
    splits["train"]["weight"] = np.full((len(splits["train"]["label"]), 1), np.nan, np.float32)
    return splits


def label_ten(splits: Splits) -> Splits:
    splits["train"]["label"][3] = 10
    return splits


def negative_label(splits: Splits) -> Splits:
    splits["validation"]["label"][0] = -2
    return splits


def without_sevens(splits: Splits) -> Splits:
    train = splits["train"]
    splits["train"] = {k: column[train["label"] != 7] for k, column in train.items()}
    return splits


def no_seven_in_a_large_test(splits: Splits) -> Splits:
    labels = splits["test"]["label"]
    labels[:] = np.where(labels == 7, 1, labels)
    many = {k: np.concatenate([c] * 20) for k, c in splits["test"].items()}
    many["image"] = np.random.default_rng(0).integers(0, 256, many["image"].shape).astype(np.uint8)
    splits["test"] = many
    return splits


def a_handful(splits: Splits) -> Splits:
    order = np.argsort(splits["train"]["label"], kind="stable")[::8]
    splits["train"] = {k: column[order] for k, column in splits["train"].items()}
    return splits


def scaled(splits: Splits) -> Splits:
    splits["test"]["image"] = (splits["test"]["image"] / 255).astype(np.uint8)
    return splits


def blank(splits: Splits) -> Splits:
    splits["train"]["image"][:20] = 0
    splits["train"]["label"][:20] = splits["train"]["label"][0]
    return splits


def repeated(splits: Splits) -> Splits:
    train = splits["train"]
    train["image"][:40], train["label"][:40] = train["image"][40:80], train["label"][40:80]
    return splits


def relabelled(splits: Splits) -> Splits:
    train = splits["train"]
    train["image"][:5] = train["image"][40:45]
    train["label"][:5] = (train["label"][40:45] + 1) % 10
    return splits


def leaked(splits: Splits) -> Splits:
    for column in ("image", "label"):
        splits["test"][column][:10] = splits["train"][column][:10]
    return splits


FAULTS: list[tuple[str, Callable[[Splits], Splits], str, str]] = [
    ("presence", without_ids, "400 of 400 records in train have no id", "SCHEMA_MISSING_COLUMN"),
    ("types", label_as_float, "100 records in test have label as float", "UNEXPECTED_DATA_TYPE"),
    ("shape", cropped, "expected 784 bytes, received 756", "INVALID_FEATURE_SHAPE"),
    ("finite", with_nan, "400 values of weight in train are not finite", "FLOAT_TYPE_HAS_NAN"),
    ("labels", label_ten, "1 labels in train are out of range: expected 0 to 9, received 10",
     "INT_TYPE_BIG_INT"),
    ("labels", negative_label, "received -2", "INT_TYPE_SMALL_INT"),
    ("classes", without_sevens, "label 7 has no examples in train", "FEATURE_TYPE_LOW_UNIQUE"),
    ("classes", no_seven_in_a_large_test, "label 7 has no examples in test",
     "FEATURE_TYPE_LOW_UNIQUE"),
    ("count", a_handful, "train has 50 examples, expected 100 or more",
     "DATASET_LOW_NUM_EXAMPLES"),
    ("range", scaled, "the brightest pixel in test has grey level 1 of 255", "INT_TYPE_SMALL_INT"),
    ("constant_images", blank, "20 of 400 images in train are constant", "CUSTOM_VALIDATION"),
    ("duplicates", repeated, "40 of 400 images in train repeat another one", "CUSTOM_VALIDATION"),
    ("label_conflicts", relabelled, "5 of 550 images have two different labels",
     "CUSTOM_VALIDATION"),
    ("leak", leaked, "10 of 100 images in test also occur in train or validation",
     "CUSTOM_VALIDATION"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "spoil", "sentence", "code"), FAULTS)
def test_a_fault_blocks_with_its_sentence_and_code(
    name: str, spoil: Callable[[Splits], Splits], sentence: str, code: str
) -> None:
    seen = evidence(spoil(healthy()))
    decision = decide(seen)
    found = check(decision, name)
    assert (found.level, decision.passed) == ("block", False)
    assert sentence in found.sentence
    assert decision.sentence.startswith("data blocked: ")
    told = [anomalies(split, decision.findings, seen) for split in seen.splits]
    reasons = [
        anomalies_pb2.AnomalyInfo.Type.Name(reason.type)
        for proto in told
        for info in (*proto.anomaly_info.values(), proto.dataset_anomaly_info)
        for reason in info.reason
        if reason.description == found.sentence and info.severity == anomalies_pb2.AnomalyInfo.ERROR
    ]
    assert code in reasons


def test_every_check_of_the_config_is_made_and_has_a_fault_that_trips_it() -> None:
    drift = {"label_drift", "label_divergence", "image_drift"}  # tests below
    assert set(get_args(CheckName)) == set(CHECKS) == {fault[0] for fault in FAULTS} | drift


def test_healthy_data_passes_without_a_warning() -> None:
    splits = healthy()
    decision = decide(evidence(splits, champion=summary(splits["train"])))
    assert decision.passed
    assert decision.sentence == "data passed: 550 images of rendered_digits, 15 checks"
    assert {c.level for c in decision.checks} == {"ok"}


def test_without_a_champion_drift_is_not_checked_and_said_so() -> None:
    decision = decide(evidence(healthy()))
    for name in ("label_drift", "label_divergence", "image_drift"):
        found = check(decision, name)
        assert (found.level, found.sentence) == ("not checked", "no champion yet")
    assert decision.passed


def test_an_absent_class_is_the_verdict_in_one_sentence() -> None:
    decision = decide(evidence(without_sevens(healthy())))
    assert decision.sentence == "data blocked: label 7 has no examples in train"


def test_several_faults_are_all_named() -> None:
    decision = decide(evidence(leaked(repeated(healthy()))))
    assert decision.sentence.endswith("(also: leak)")


@pytest.mark.parametrize(("name", "spoil"), [(name, spoil) for name, spoil, *_ in FAULTS])
def test_a_check_may_only_warn_or_be_off(name: str, spoil: Callable[[Splits], Splits]) -> None:
    splits = spoil(healthy())
    before = {c.name for c in decide(evidence(splits)).checks if c.level == "block"}
    warned = decide(evidence(splits, **{name: "warn"}))
    assert (check(warned, name).level, check(warned, name).action) == ("warn", "warn")
    assert {c.name for c in warned.checks if c.level == "block"} == before - {name}
    switched_off = decide(evidence(splits, **{name: "off"}))
    assert check(switched_off, name).level == "off"
    if before == {name}:
        assert warned.passed
        assert switched_off.passed
        assert name in warned.sentence


def test_a_few_faults_warn_where_a_few_are_tolerated() -> None:
    splits = healthy()
    splits["train"]["image"][0] = splits["train"]["image"][1]
    splits["train"]["label"][0] = splits["train"]["label"][1]
    splits["train"]["image"][2] = 7
    splits["test"]["image"][0] = splits["train"]["image"][5]
    splits["test"]["label"][0] = splits["train"]["label"][5]
    decision = decide(evidence(splits))
    assert decision.passed
    assert decision.sentence.endswith("warned of constant_images, duplicates, leak")


def test_a_feature_that_the_schema_does_not_name_is_warned_of() -> None:
    splits = healthy()
    splits["train"]["writer"] = np.zeros((400, 4), np.uint8)
    decision = decide(evidence(splits))
    assert decision.passed
    assert check(decision, "presence").level == "warn"
    assert "writer" in check(decision, "presence").sentence


def test_a_class_that_chance_left_out_of_a_small_split_is_warned_of() -> None:
    splits = healthy()
    labels = splits["validation"]["label"]
    labels[labels == 7] = 1
    decision = decide(evidence(splits))
    assert decision.passed
    assert check(decision, "classes").sentence == "label 7 has no examples in validation"


def test_a_test_split_of_other_shares_than_train_is_no_fault() -> None:
    splits = healthy()
    rare = np.flatnonzero(splits["test"]["label"] == 7)[1:]
    splits["test"]["label"][rare] = 1
    decision = decide(evidence(splits))
    assert check(decision, "classes").level == "ok"


def champion_of(splits: Splits, times: int) -> Any:
    return summary(*[splits["train"]] * times)


@pytest.mark.parametrize(("times", "level"), [(1, "ok"), (3, "block")])
def test_fewer_examples_than_the_champion_had(times: int, level: str) -> None:
    splits = healthy()
    decision = decide(evidence(splits, champion=champion_of(splits, times)))
    assert check(decision, "count").level == level
    if level == "block":
        assert "train has 400 examples, the champion's had 1,200" in decision.sentence


def test_many_more_examples_than_the_champion_had() -> None:
    splits = healthy()
    champion = summary({k: c[:30] for k, c in splits["train"].items()})
    found = check(decide(evidence(splits, champion=champion)), "count")
    assert found.level == "block"
    assert "10 times as many at most" in found.sentence


def test_a_shrinking_data_set_is_warned_of_before_it_blocks() -> None:
    splits = healthy()
    champion = summary(splits["train"], {k: c[:200] for k, c in splits["train"].items()})
    assert check(decide(evidence(splits, champion=champion)), "count").level == "warn"


def shifted_labels(share: float) -> tuple[Splits, Any]:
    splits = healthy()
    champion = summary(splits["train"])
    labels = splits["train"]["label"]
    labels[np.random.default_rng(0).random(len(labels)) < share] = 3
    return splits, champion


def test_a_label_that_takes_over_blocks_and_is_measured_in_the_proto() -> None:
    splits, champion = shifted_labels(0.5)
    seen = evidence(splits, champion=champion)
    decision = decide(seen)
    for name in ("label_drift", "label_divergence"):
        assert check(decision, name).level == "block"
    assert "label 3 makes up" in check(decision, "label_drift").sentence
    (drift,) = anomalies("train", decision.findings, seen).drift_skew_info
    assert list(drift.path.step) == ["label"]
    for measured, name in zip(drift.drift_measurements, CHECKS_OF_LABELS, strict=True):
        assert measured.value == pytest.approx(check(decision, name).value)
        assert measured.threshold == pytest.approx(check(decision, name).bound)


CHECKS_OF_LABELS = ("label_drift", "label_divergence")


def test_a_little_drift_of_labels_is_warned_of() -> None:
    splits, champion = shifted_labels(0.12)
    decision = decide(evidence(splits, champion=champion))
    assert decision.passed
    assert check(decision, "label_drift").level == "warn"


def test_a_champion_with_fewer_classes_can_be_compared() -> None:
    splits = healthy()
    few = {k: c[splits["train"]["label"] < 5] for k, c in splits["train"].items()}
    five = replace(INFO, label_names=INFO.label_names[:5])
    decision = decide(evidence(splits, champion=summary(few, info=five)))
    assert check(decision, "label_divergence").level == "block"


def test_an_empty_split_blocks() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    splits["test"] = []
    decision = decide(evidence(splits))
    assert decision.sentence == "data blocked: test has 0 examples, expected 1 or more"


def test_an_empty_train_split_blocks() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    splits["train"] = []
    seen: Evidence = evidence(splits)
    decision = decide(seen)
    assert not decision.passed
    assert check(decision, "count").level == "block"
    assert anomalies("train", decision.findings, seen).data_missing


def test_named_classes_are_called_by_name() -> None:
    names = tuple(f"animal {i}" for i in range(10))
    info = replace(INFO, label_names=names)
    decision = decide(evidence(without_sevens(healthy()), info=info))
    assert decision.sentence == "data blocked: label 7 (animal 7) has no examples in train"


def test_tolerated_counts_follow_the_sample_size() -> None:
    assert allowed_count(0, 0.01, 0.01) == allowed_count(500, 0.0, 0.01) == 0
    assert allowed_count(500, 1.0, 0.01) == 500
    rng = np.random.default_rng(0)
    for size, share in ((85, 0.001), (400, 0.01), (10_000, 0.001), (55_000, 0.01)):
        drawn = rng.binomial(size, share, 20_000)
        allowed = allowed_count(size, share, 0.01)
        assert (drawn > allowed).mean() <= 0.013
        assert (drawn >= allowed).mean() > 0.008
        assert (drawn < least_count(size, share, 0.01)).mean() <= 0.013


def test_images_of_one_batch_and_of_many_are_judged_alike() -> None:
    splits = healthy()
    parts = [{k: c[i::3] for k, c in splits["train"].items()} for i in range(3)]
    assert decide(evidence(splits | {"train": parts})) == decide(evidence(splits))


def test_records_of_mixed_kinds_are_counted() -> None:
    splits: dict[str, Columns | list[Columns]] = dict(healthy())
    odd = records(np.zeros((3, 28, 28), np.float32), np.zeros(3, np.int64))
    splits["train"] = [healthy()["train"], odd]
    found = check(decide(evidence(splits)), "types")
    assert found.level == "block"
    assert found.sentence == "3 records in train have image as float, expected bytes"
