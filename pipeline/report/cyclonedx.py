"""A served version as a CycloneDX 1.6 bill of materials: files, data, libraries, model card."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from bnpipe.data.digest import FileDigest
from bnpipe.pipeline.report.evaluation import METRICS, Measured, RunEvaluation, measured

Json = Mapping[str, Any]


def bill_of_materials(
    source: Json, root: str, files: Mapping[str, FileDigest], report: Json, card: Json
) -> dict[str, Any]:
    """The bill, the same for the same version.

    Args:
        source: `versions.provenance_of` the version.
        root: sha256 (hex) over the digests of its files, as it is signed.
        files: its files.
        report: `report.json` of the run that pushed it; empty where that is not at hand.
        card: `model_card.json` of the model; empty likewise.
    """
    name, version = source["model_name"], str(source["version"])
    code, dataset = source.get("code", {}), source.get("dataset", {})
    data = {
        "type": "data",
        "bom-ref": "dataset",
        "name": str(dataset.get("name")),
        "version": str(dataset.get("version")),
        "data": [{"type": "dataset", "name": str(dataset.get("name"))}],
        "properties": _properties("dataset", dataset),
    }
    packages = {k.removeprefix("version_"): v for k, v in code.items() if k.startswith("version_")}
    python = packages.pop("python", None)
    libraries = [
        {
            **{"type": "library", "bom-ref": purl, "name": package, "version": packages[package]},
            "purl": purl,
        }
        for package in sorted(packages)
        for purl in [f"pkg:pypi/{package}@{packages[package]}"]
    ]
    made = {"run": source.get("run"), "python": python, "force": source.get("force")}
    digests = {k: v for k, v in code.items() if k.endswith(("_digest", "git_commit", "git_dirty"))}
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name,
        "version": version,
        "description": str(source.get("verdict", "")),
        "hashes": [{"alg": "SHA-256", "content": root}],
        "components": [
            {
                **{"type": "file", "bom-ref": f"file:{path}", "name": path},
                "hashes": [{"alg": "SHA-256", "content": files[path].sha256}],
            }
            for path in sorted(files)
        ],
        "modelCard": _model_card(source, report, card),
        "properties": _properties("bnpipe", made | digests | dict(source.get("inputs", {}))),
    }
    needs = ["dataset", *(library["bom-ref"] for library in libraries)]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, f"{name}/{version}/{root}").urn,
        "version": 1,
        "metadata": {"component": model},
        "components": [data, *libraries],
        "dependencies": [{"ref": "model", "dependsOn": needs}],
    }


def _model_card(source: Json, report: Json, card: Json) -> dict[str, Any]:
    dataset, trial = source.get("dataset", {}), source.get("trial") or {}
    height, width, labels = (dataset.get(key) for key in ("height", "width", "label_names"))
    evaluation = RunEvaluation.of(report)
    rules = evaluation.blessing.get("rules", ()) if evaluation else ()
    limits = [
        f"an image of anything else is taken for one of the classes {', '.join(labels or ())}"
    ]
    limits += ["trained on synthetic data"] if dataset.get("synthetic") else []
    limits += [r["sentence"] for r in rules if r["outcome"] in ("warn", "block")]
    limits += [trial["sentence"]] if trial.get("weaker") else []
    against = [r["sentence"] for r in rules if r["name"] == "baseline_not_worse"]
    layers = [f"{each['name']} ({each['kind']})" for each in card.get("network", ())]
    parameters = {
        "approach": {"type": "supervised"},
        "task": "image classification",
        "architectureFamily": "feed-forward neural network",
        "datasets": [{"ref": "dataset"}],
        "inputs": [{"format": f"{height} x {width} pixels, one channel"}],
        "outputs": [{"format": f"{len(labels or ())} class probabilities"}],
    }
    if layers:
        parameters["modelArchitecture"] = ", ".join(layers)
    return {
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": _metrics(source, evaluation)},
        "considerations": {
            "useCases": [f"classification of images as in {dataset.get('name')}"],
            "technicalLimitations": limits,
            "performanceTradeoffs": [str(source.get("verdict", "")), *against],
        },
        "properties": _properties("trainer", card.get("params", {})),
    }


def _metrics(source: Json, evaluation: RunEvaluation | None) -> list[dict[str, Any]]:
    """What the evaluator measured; without its report, the numbers that the gate's rules saw."""
    if evaluation is None or "candidate" not in evaluation.models:
        rules = source.get("metrics", {}).items()
        return [
            _metric(f"rule {name}", Measured(value)) for name, value in rules if value is not None
        ]
    scores = evaluation.metrics["models"]["candidate"]
    metrics = [
        _metric(key, measured(scores, key)) for key in METRICS if scores.get(key) is not None
    ]
    for name, part in evaluation.metrics.get("slices", {}).items():
        value = measured(part["models"]["candidate"], "accuracy")
        metrics += (
            [{**_metric("accuracy", value), "slice": name}] if value.value is not None else []
        )
    return metrics


def _metric(kind: str, value: Measured) -> dict[str, Any]:
    bounds = dict(zip(("lowerBound", "upperBound"), map(str, value.interval or ()), strict=False))
    interval = {"confidenceInterval": bounds} if bounds else {}
    return {"type": kind, "value": str(value.value), **interval}


def _properties(room: str, values: Json) -> list[dict[str, str]]:
    return [{"name": f"{room}:{k}", "value": str(v)} for k, v in values.items() if v is not None]
