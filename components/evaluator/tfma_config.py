"""What TFMA is asked to compute: one EvalConfig per question.

TFMA computes every metric of a config on every slice of it, so the cheap scalar metrics on all
slices and the dear one-vs-rest metrics on the whole are two configs. A config admits one baseline,
so the champion has a config of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2

from bnpipe.components.evaluator.evidence import BASELINE, CANDIDATE, CHAMPION
from bnpipe.components.evaluator.params import Params

Json = Mapping[str, Any]

PREDICTIONS_ONLY = "materialized_prediction"
"""A model type that TFMA 0.52 knows but does not document: the answers are a feature."""

MARGIN_RULES = {BASELINE: "baseline_non_inferior", CHAMPION: "champion_non_inferior"}


def prediction_key(model: str) -> str:
    """The feature that holds a model's answers."""
    return f"{model}_probabilities"


def slice_metrics(params: Params, reference: str | None) -> config_pb2.EvalConfig:
    """Count, accuracy, cross-entropy and top-2 accuracy on every slice, with the gate's thresholds.

    Args:
        params: slicings and thresholds.
        reference: the model to compare the candidate with; None evaluates the candidate alone.
    """
    metrics: list[Json] = [
        {"class_name": "ExampleCount"},
        {
            "class_name": "SparseCategoricalAccuracy",
            "config": '"name": "accuracy"',
            "per_slice_thresholds": _thresholds(params, reference),
        },
        {"class_name": "SparseCategoricalCrossentropy", "config": '"name": "loss"'},
        {
            "class_name": "SparseTopKCategoricalAccuracy",
            "config": '"k": 2, "name": "top_2_accuracy"',
        },
    ]
    slicings: list[Json] = [{}, *({"feature_keys": s.split("*")} for s in params.slices)]
    return _config(reference, slicings, [{"metrics": metrics}])


def one_vs_rest_metrics(classes: int, reference: str | None) -> config_pb2.EvalConfig:
    """Precision, recall, F1 and AUC per class and macro, confusion matrix and calibration, overall.

    Precision and recall are TFMA's one-vs-rest ones, at a probability above one half.
    """
    binary: list[Json] = [{"class_name": n} for n in ("Precision", "Recall", "F1Score", "AUC")]
    # TFMA's macro average counts a class without a weight as nothing.
    equal_weights = {str(k): 1.0 for k in range(classes)}
    specs: list[Json] = [
        {"metrics": [{"class_name": "MultiClassConfusionMatrixPlot"}]},
        {"binarize": {"class_ids": {"values": list(range(classes))}}, "metrics": binary},
        {"aggregate": {"macro_average": True, "class_weights": equal_weights}, "metrics": binary},
        {
            "aggregate": {"micro_average": True},
            "metrics": [{"class_name": "CalibrationPlot", "config": '"num_buckets": 20'}],
        },
    ]
    return _config(reference, [{}], specs)


def _config(
    reference: str | None, slicings: Sequence[Json], metrics: Sequence[Json]
) -> config_pb2.EvalConfig:
    models: list[Json] = [
        {
            "name": name,
            "model_type": PREDICTIONS_ONLY,
            "label_key": "label",
            "prediction_key": prediction_key(name),
            "is_baseline": name != CANDIDATE,
        }
        for name in (CANDIDATE, *([reference] if reference else []))
    ]
    config = {
        "model_specs": models,
        "slicing_specs": slicings,
        "metrics_specs": metrics,
        # TFMA's own intervals draw without a seed and would make equal runs differ.
        "options": {"include_default_metrics": False, "compute_confidence_intervals": False},
    }
    return json_format.ParseDict(config, config_pb2.EvalConfig())


def _thresholds(params: Params, reference: str | None) -> list[Json]:
    """The floors and the margin that block, as TFMA's thresholds on point values."""

    def blocks(rule: str) -> bool:
        return bool(getattr(params.rules, rule) == "block")

    overall: dict[str, Any] = {}
    if blocks("accuracy_floor"):
        overall["value_threshold"] = {"lower_bound": params.min_accuracy}
    if reference and blocks(MARGIN_RULES[reference]):
        overall["change_threshold"] = {
            "direction": "HIGHER_IS_BETTER",
            "absolute": -params.margin,
        }
    thresholds: list[Json] = []
    if overall:
        thresholds.append({"slicing_specs": [{}], "threshold": overall})
    for column in params.slices:
        rule = "worst_class" if column == "label" else "slice_floor"
        if "*" in column or not blocks(rule):
            continue
        floor = params.min_class_accuracy if column == "label" else params.min_slice_accuracy
        thresholds.append(
            {
                "slicing_specs": [{"feature_keys": [column]}],
                "threshold": {"value_threshold": {"lower_bound": floor}},
            }
        )
    return thresholds
