"""A served version as a CycloneDX 1.6 bill of materials: data, libraries, model card."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.report.evaluation import METRICS, Measured, RunEvaluation, measured

Json = Mapping[str, Any]


def bill_of_materials(source: Json, built: Json, report: Json) -> dict[str, Any]:
    """The bill, the same for the same version and report: its serial number follows from the rest.

    Args:
        source: `versions.provenance_of` the version.
        built: the same as a statement of SLSA.
        report: `report.json` of the run that pushed it; empty where that is not at hand.
    """
    dataset, subject = source.get("dataset", {}), built["subject"][0]
    parts = built["predicate"]["buildDefinition"]["resolvedDependencies"]
    packages = [part["uri"] for part in parts if "uri" in part]
    model = {
        **_component("machine-learning-model", "model", source["model_name"], source["version"]),
        "description": str(source.get("verdict", "")),
        "hashes": [{"alg": "SHA-256", "content": subject["digest"]["sha256"]}],
        "modelCard": _model_card(source, report),
        "properties": _properties({**source.get("code", {}), **source.get("inputs", {})}),
    }
    data = _component("data", "dataset", dataset.get("name"), dataset.get("version"))
    data["properties"] = _properties(dataset)
    libraries = [
        {**_component("library", uri, *unquote(uri[len("pkg:pypi/") :]).split("@")), "purl": uri}
        for uri in packages
    ]
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": model},
        "components": [data, *libraries],
        "dependencies": [{"ref": "model", "dependsOn": ["dataset", *packages]}],
    }
    return {**bill, "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, json_text(bill)).urn}


def _model_card(source: Json, report: Json) -> dict[str, Any]:
    dataset, trial = source.get("dataset", {}), source.get("trial") or {}
    evaluation, trainer = RunEvaluation.of(report), report.get("config", {}).get("trainer", {})
    rules = evaluation.blessing.get("rules", ()) if evaluation else ()
    labels = ", ".join(dataset.get("label_names", ()))
    limits = [f"whatever an image shows, the answer is one of the classes {labels}"]
    limits += ["trained on synthetic data"] if dataset.get("synthetic") else []
    limits += [rule["sentence"] for rule in rules if rule["outcome"] in ("warn", "block")]
    limits += [trial["sentence"]] if trial.get("weaker") else []
    pixels = f"{dataset.get('height')} x {dataset.get('width')} pixels, one channel"
    parameters = {
        "approach": {"type": "supervised"},
        "task": "image classification",
        "architectureFamily": "feed-forward neural network",
        "datasets": [{"ref": "dataset"}],
        "inputs": [{"format": pixels}],
        "outputs": [{"format": f"probabilities of the classes {labels}"}],
    }
    if units := trainer.get("hidden_units"):
        layers = f"dense, hidden units {units}, normalization {trainer.get('normalization')}"
        parameters["modelArchitecture"] = layers
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": _metrics(source, evaluation)},
        "considerations": {
            "useCases": [f"classification of images as in {dataset.get('name')}"],
            "technicalLimitations": limits,
        },
        "properties": _properties(trainer),
    }


def _metrics(source: Json, evaluation: RunEvaluation | None) -> list[dict[str, Any]]:
    """What the evaluator measured; without its report, the numbers that the gate's rules saw."""
    if evaluation is None or "candidate" not in evaluation.models:
        rows = [({"type": f"rule {k}"}, Measured(v)) for k, v in source.get("metrics", {}).items()]
    else:
        scores = evaluation.metrics["models"]["candidate"]
        rows = [({"type": key}, measured(scores, key)) for key in METRICS]
        for name, part in evaluation.metrics.get("slices", {}).items():
            value = measured(part["models"]["candidate"], "accuracy")
            rows.append(({"type": "accuracy", "slice": name}, value))
    metrics = []
    for row, value in rows:
        if value.value is not None:
            bounds = zip(("lowerBound", "upperBound"), map(str, value.interval or ()), strict=False)
            interval = {"confidenceInterval": dict(bounds)} if value.interval else {}
            metrics.append({**row, "value": str(value.value), **interval})
    return metrics


def _component(kind: str, reference: str, name: object, version: object) -> dict[str, Any]:
    return {"type": kind, "bom-ref": reference, "name": str(name), "version": str(version)}


def _properties(values: Json) -> list[dict[str, str]]:
    return [{"name": k, "value": str(v)} for k, v in values.items() if v is not None]
