"""A home with the records of many runs, made from those of one that was run, and no objects."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.folder import ledger

FIRST = datetime(2026, 1, 5, 3, tzinfo=UTC)
TEMPLATE = Path(__file__).parents[1] / "engine/older_home/runs/0002/report.json"
REFUSED, FAILED, DAMAGED, ROLLED_BACK = 7, 11, 13, 8
"""One run in so many is refused by the evaluator, one fails, of one the data gate refuses the data;
one version in so many is rolled back."""


def many_runs(home: Path, count: int, every: timedelta = timedelta(days=1)) -> Store:
    """Runs 1 to `count`; each that passes is published."""
    store, template, rng = Store(home), json.loads(TEMPLATE.read_text()), np.random.default_rng(0)
    store.prepare()
    base = home / "served" / "mnist"
    base.mkdir(parents=True)
    lines: list[dict[str, Any]] = []
    version = 0
    for number in range(1, count + 1):
        at = FIRST + number * every
        report = json.loads(json.dumps(template))
        report |= {"id": f"{number:04d}", "started": at.timestamp(), "dataset": "mnist"}
        report["pushed"] = {"sentence": "nothing: a gate said no"}
        report["seconds"] = 30 + 5 * rng.random()
        gate = next(s for s in report["steps"] if s["component"] == "example_validator")
        gate["facts"]["worst_drift"] = 0.3 + 0.2 * math.sin(number / 20) + 0.1 * rng.random()
        for step in report["steps"]:
            step["action"] = "run"
            step["seconds"] = 3 * rng.random() + (12 if step["name"] == "trainer" else 0.2)
        measure(report["evaluation"], 0.975 + 0.003 * rng.standard_normal(), rng)
        if number % FAILED == 0:
            report |= {"status": "failed", "error": "no space left", "verdict": None}
            del report["evaluation"]
        elif number % REFUSED == 0:
            sentence = "not blessed: accuracy 0.1000 is below the floor 0.97"
            report |= {"status": "stopped", "verdict": {"step": "evaluator", "passed": False,
                                                        "sentence": sentence}}  # fmt: skip
            measure(report["evaluation"], 0.1, rng)
        elif number % DAMAGED == 0:
            verdict = {"passed": False, "sentence": "data blocked: of images by label, ink"}
            report |= {"status": "stopped", "verdict": {"step": "example_validator", **verdict}}
            gate["verdict"], gate["facts"]["worst_drift"] = verdict, 2.1
            del report["evaluation"]
        else:
            version += 1
            report["verdict"]["sentence"] = f"blessed: accuracy of run {number}"
            report["pushed"] |= {"version": version, "base_path": str(base)}
            lines += published(version, at, f"{number:04d}")
            if version % ROLLED_BACK == 0:
                after = (at + every / 2).isoformat()
                lines.append({"event": "rolled_back", "version": version, "digest": f"d{version}",
                              "to": version - 1, "reason": "complaints", "at": after})  # fmt: skip
        folder = store.runs / report["id"]
        folder.mkdir()
        (folder / "report.json").write_text(json.dumps(report))
        (folder / "report.html").touch()
        kept = {k: v for k, v in report.items() if k not in ("evaluation", "blessing", "config")}
        (folder / "run.json").write_text(json.dumps(kept))
    (base / ledger.LEDGER).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return store


def measure(evaluation: Any, accuracy: float, rng: np.random.Generator) -> None:
    """Sets what a run measured."""
    half = 0.003
    candidate = evaluation["models"]["candidate"]
    candidate["accuracy"] = accuracy
    candidate["accuracy_interval"] = [accuracy - half, accuracy + half]
    for of in evaluation["against"].values():
        of["difference"] = difference = accuracy - 0.974 + 0.001 * rng.standard_normal()
        of["interval"] = [difference - half, difference + half]


def published(version: int, at: datetime, run: str) -> list[dict[str, Any]]:
    """The lines of a ledger."""
    time = (at + timedelta(seconds=30)).isoformat()
    source = {"run": run, "verdict": f"blessed: accuracy of run {int(run)}",
              "inputs": {"model": f"m{version}"}}  # fmt: skip
    entry = {"digest": f"d{version}", "model_name": "mnist", "compared_with": version - 1 or None,
             "provenance": source, "force": None}  # fmt: skip
    return [
        {"event": "reserved", "version": version, **entry, "at": time},
        {"event": "published", "version": version, "at": time},
    ]


def estimates(home: Path, count: int, every: timedelta = timedelta(days=1)) -> Path:
    """The schedule's estimates, as another part of the product writes them; every ninth drifts."""
    lines = []
    for number in range(1, count + 1):
        accuracy = 0.97 - 0.0001 * number
        version = 1 + number // 3
        lines.append({"time": (FIRST + number * every).isoformat(), "version": version,
                      "model": f"m{version}",
                      "requests": 2000, "accuracy": accuracy, "low": accuracy - 0.008,
                      "high": accuracy + 0.008, "drift": number % 9 == 0,
                      "sentence": f"about {accuracy:.4f} of 2,000 requests"})  # fmt: skip
    path = home / "schedule" / "estimates.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
