"""New labelled data beside the data set, through the whole pipeline."""

import json
from typing import Any

import pytest

from bnpipe.pipeline.engine.store import Store
from tests.integration.conftest import Project, digests, steps
from tests.span_folders import write_images, write_records

NEW = ("2026-11-20", "2026-11-21")
SLICES = {"span:0": 400, "span:20261120": 90, "span:20261121": 60}


class Grown:
    """A pipeline that ran once, and then again with two spans beside its data."""

    def __init__(self, project: Project) -> None:
        spans = project.folder / "spans"
        write_images(spans / NEW[0], seed=5, train=300, test=90)
        write_records(spans / NEW[1], seed=6, train=250, test=60)
        self.project = project
        words = ("--set", f"data.spans={spans}/{{SPAN}}")
        self.planned = project.json("plan", *words)
        self.summary = project.json("run", *words, "--to", "evaluator")
        self.planned_again = project.json("plan", *words)

    def read(self, step: str, field: str, file: str) -> Any:
        folder = Store(self.project.home).object_path(digests(self.summary)[step][field])
        return json.loads((folder / file).read_text())


@pytest.fixture(scope="module")
def grown(kept: Project, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return Grown(kept.copied_to(tmp_path_factory.mktemp("grown")))


def test_the_plan_names_the_new_spans_and_the_run_does_what_it_shows(grown: Grown) -> None:
    planned = {step["name"]: step for step in grown.planned["steps"]}
    (reason,) = planned["example_gen"]["reasons"]
    assert reason["sentence"] == f"outside changed: span {NEW[0]}, span {NEW[1]}"
    assert steps(grown.summary)["example_gen"] == planned["example_gen"]["action"] == "run"
    assert steps(grown.summary)["trainer"] == "run"
    again = {step["name"]: step["action"] for step in grown.planned_again["steps"]}
    assert again["example_gen"] == again["trainer"] == again["evaluator"] == "cached"


def test_every_record_of_a_span_is_accounted_for(grown: Grown) -> None:
    stored = grown.read("example_gen", "examples", "dataset.json")
    counts = stored["spans"]
    assert list(counts) == list(NEW)
    for name, train, test in ((NEW[0], 300, 90), (NEW[1], 250, 60)):
        assert counts[name]["train"] + counts[name]["validation"] == train
        assert (counts[name]["test"], counts[name]["bad_records"]) == (test, 0)
    assert sum(stored["splits"].values()) == 2400 + 300 + 90 + 250 + 60


def test_candidate_and_champion_are_scored_on_the_same_images_of_every_span(grown: Grown) -> None:
    metrics = grown.read("evaluator", "evaluation", "metrics.json")
    assert metrics["dataset"]["images"] == sum(SLICES.values())
    for name, images in SLICES.items():
        judged = metrics["slices"][name]
        assert judged["images"] == images
        assert judged["models"].keys() == {"candidate", "baseline", "champion"}
        assert {"baseline", "champion"} == judged["against"].keys()
    rules = grown.read("evaluator", "blessing", "blessing.json")["rules"]
    (compared,) = [rule for rule in rules if rule["name"] == "champion_non_inferior"]
    assert compared["outcome"] == "ok"
