"""Bad data through the command line: the gate says why, and nothing behind it runs."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml

from bnpipe.components.example_validator.params import Checks
from bnpipe.data.png import encode_stored
from bnpipe.data.sources.digit_renderer import draw_chunk
from tests.integration.conftest import MakeProject, Project, steps

CONFIG = """\
data: {dataset: rendered_digits, size: 1500, shards: 1, spans: "spans/{SPAN}"}
"""
SPAN = 150
BEHIND = ("transform", "trainer", "baseline", "evaluator", "pusher")


def deliver(folder: Path, *, permuted: bool = False) -> None:
    """A span whose images someone has inverted, or mixed up their labels: a tenth of train."""
    images, labels = draw_chunk(7, "train", 0)
    if permuted:
        images = 255 - images
        labels[:SPAN] = np.random.default_rng(0).permutation(labels[:SPAN])
    for number in range(SPAN):
        place = folder / "train" / str(labels[number])
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(encode_stored(255 - images[number]))
    (folder / "_SUCCESS").touch()


@pytest.fixture(scope="module")
def project(make_project: MakeProject) -> Project:
    project = make_project(CONFIG)
    deliver(project.folder / "spans" / "2026-11-20")
    return project


def test_a_bad_span_stops_the_run_and_a_person_may_let_it_pass(project: Project) -> None:
    printed = project.call("run", exit_code=3)
    assert "data blocked: " in printed
    assert "train/span-2026-11-20" in printed
    run = project.json("show", "latest")
    assert (run["exit_code"], run["status"]) == (3, "stopped")
    assert run["verdict"]["sentence"].startswith("data blocked: ")
    happened = steps(run)
    assert happened["example_validator"] == "run"
    assert {name: happened[name] for name in BEHIND} == dict.fromkeys(BEHIND, "stopped")
    assert not any(step["outputs"] for step in run["steps"] if step["name"] in BEHIND)
    assert not (project.home / "served").exists()

    checks = (
        "image_drift",
        "image_outliers",
        "class_statistics",
        "label_drift",
        "label_divergence",
    )
    allowed = [word for name in checks for word in ("--set", f"validator.checks.{name}=warn")]
    printed = project.call("run", "--to", "example_validator", *allowed)
    assert "warned of image_drift, image_outliers" in printed
    run = project.json("show", "latest")
    happened = steps(run)
    assert (happened["example_gen"], happened["example_validator"]) == ("cached", "run")
    config = yaml.safe_load((project.home / "runs" / run["id"] / "config.yaml").read_text())
    levels = config["validator"]["checks"]
    assert [levels[name] for name in checks] == ["warn"] * len(checks)
    assert levels["leak"] == "block"
    (validated,) = [step for step in run["steps"] if step["name"] == "example_validator"]
    (digest,) = validated["outputs"].values()
    folder = project.home / "objects" / digest[:2] / digest
    verdict = json.loads((folder / "verdict.json").read_text())
    levels = {check["name"]: check["level"] for check in verdict["checks"]}
    assert [levels[name] for name in checks] == ["warn"] * len(checks)


@pytest.mark.slow
def test_a_span_with_permuted_labels_stops_before_the_evaluator(make_project: MakeProject) -> None:
    project = make_project(CONFIG + "trainer: {epochs: 1}\n")
    deliver(project.folder / "spans" / "2026-11-20", permuted=True)
    # Whatever the data gate can see of it already.
    lenient = [w for f in fields(Checks) for w in ("--set", f"validator.checks.{f.name}=warn")]
    printed = project.call("run", "--to", "evaluator", *lenient, exit_code=3)
    assert "labels blocked: about " in printed
    assert "train/span-2026-11-20 are wrong" in printed
    run = project.json("show", "latest")
    happened = steps(run)
    assert (happened["trainer"], happened["label_validator"]) == ("run", "run")
    assert happened["evaluator"] == "stopped"
    assert run["verdict"]["step"] == "label_validator"
    report = (project.home / "runs" / run["id"] / "report.html").read_text()
    assert "Labels in doubt, train split" in report
    levels = ("--set", "label_validator.checks.part_labels=warn")
    project.call("run", "--to", "label_validator", *lenient, *levels)
