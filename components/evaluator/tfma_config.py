"""TFMA's task: one EvalConfig over all models.

TFMA computes every metric of a config on every slice of it, a fifth of its time for each, so it is
asked for few, which it takes for many images at once; the rest comes from our own arrays
(`measure.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2

from bnpipe.components.evaluator.evidence import CANDIDATE
from bnpipe.components.evaluator.params import Params

Json = Mapping[str, Any]

PREDICTIONS_ONLY = "materialized_prediction"
"""A model type that TFMA 0.52 knows but does not document: the answers are a feature."""

WEIGHT_KEY = "weight"
"""The feature that tells images from what fills a block up."""


def prediction_key(model: str) -> str:
    """The feature that holds a model's answers."""
    return f"{model}_probabilities"


def eval_config(params: Params, references: Sequence[str]) -> config_pb2.EvalConfig:
    """Count, accuracy and cross-entropy on every slice, with the gate's thresholds.

    A config admits one baseline: the first reference. The margin to another one is the gate's
    alone, whose lower bound is below TFMA's point value.

    Args:
        params: slicings and thresholds.
        references: the models to compare the candidate with; none evaluates the candidate alone.
    """
    baseline = references[0] if references else None
    specs = [_metrics([CANDIDATE, *references[:1]], _thresholds(params, baseline))]
    if references[1:]:
        # A threshold holds for every model of its spec.
        specs.append(_metrics(references[1:], []))
    models: list[Json] = [
        {
            "name": name,
            "model_type": PREDICTIONS_ONLY,
            "label_key": "label",
            "prediction_key": prediction_key(name),
            "example_weight_key": WEIGHT_KEY,
            "is_baseline": name == baseline,
        }
        for name in (CANDIDATE, *references)
    ]
    config = {
        "model_specs": models,
        "slicing_specs": [{}, *({"feature_keys": s.split("*")} for s in params.slices)],
        "metrics_specs": specs,
        # TFMA's own intervals draw without a seed and would make equal runs differ.
        "options": {"include_default_metrics": False, "compute_confidence_intervals": False},
    }
    return json_format.ParseDict(config, config_pb2.EvalConfig())


def _metrics(models: Sequence[str], thresholds: Sequence[Json]) -> Json:
    accuracy = {"class_name": "SparseCategoricalAccuracy", "config": '"name": "accuracy"'}
    return {
        "model_names": list(models),
        "metrics": [
            {"class_name": "ExampleCount"},
            accuracy | {"per_slice_thresholds": thresholds},
            {"class_name": "SparseCategoricalCrossentropy", "config": '"name": "loss"'},
        ],
    }


def _thresholds(params: Params, reference: str | None) -> list[Json]:
    """The floors and the margin that block, as TFMA's thresholds on point values."""

    def blocks(rule: str) -> bool:
        return bool(getattr(params.rules, rule) == "block")

    overall: dict[str, Any] = {}
    if blocks("accuracy_floor"):
        overall["value_threshold"] = {"lower_bound": params.min_accuracy}
    if reference and blocks(f"{reference}_non_inferior"):
        overall["change_threshold"] = {"direction": "HIGHER_IS_BETTER", "absolute": -params.margin}
    thresholds: list[Json] = []
    if overall:
        thresholds.append({"slicing_specs": [{}], "threshold": overall})
    of_classes = "worst_class", params.min_class_accuracy
    of_others = "slice_floor", params.min_slice_accuracy
    for column in params.slices:
        rule, floor = of_classes if column == "label" else of_others
        if "*" not in column and blocks(rule):
            threshold = {"value_threshold": {"lower_bound": floor}}
            slicing = {"feature_keys": [column]}
            thresholds.append({"slicing_specs": [slicing], "threshold": threshold})
    return thresholds
