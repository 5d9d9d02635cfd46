"""Bad data through the command line: the gate says why, and nothing behind it runs."""

import json
from pathlib import Path

import pytest
import yaml

from bnpipe.data.png import encode_stored
from bnpipe.data.sources.digit_renderer import draw_chunk
from tests.integration.conftest import MakeProject, Project, steps

CONFIG = """\
data: {dataset: rendered_digits, size: 1500, shards: 1, spans: "spans/{SPAN}"}
"""
SPAN = 150
BEHIND = ("transform", "trainer", "baseline", "evaluator", "pusher")


def deliver(folder: Path) -> None:
    """A span whose images someone has inverted: a tenth of what train has."""
    images, labels = draw_chunk(7, "train", 0)
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
