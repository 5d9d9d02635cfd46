"""The whole pipeline through the command line: run, run again, change, kill, look back."""

import html
import json
import signal
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bnpipe.components.artifacts import Examples, TransformedExamples
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.png import encode_stored
from bnpipe.data.records.examples import as_strings, read_batches
from bnpipe.pipeline.engine.store import Store
from tests.integration.conftest import SMALL, First, MakeProject, Project, Run, digests, steps
from tests.transformed import read_transformed

STEPS = (
    "example_gen",
    "statistics_gen",
    "example_validator",
    "cross_validation",
    "transform",
    "trainer",
    "baseline",
    "label_validator",
    "evaluator",
    "infra_validator",
    "pusher",
)
BEHIND = ("example_gen", "statistics_gen", "example_validator", "transform")
"""The steps that the trainer waits for."""
CHANGE = ("--set", "trainer.epochs=2")


class Change(NamedTuple):
    """A changed parameter: what was planned, then what training did."""

    plan: dict[str, Any]
    run: dict[str, Any]


@pytest.fixture(scope="session")
def project(kept: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Goes on where the first run ended."""
    return kept.copied_to(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def copy(kept: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return kept.copied_to(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="session")
def changed(project: Project) -> Change:
    plan = project.json("plan", *CHANGE)
    return Change(plan, project.json("run", *CHANGE, "--to", "trainer"))


@pytest.fixture(scope="session")
def model(first: Run) -> Any:
    """The pushed SavedModel."""
    import tensorflow as tf

    return tf.saved_model.load(first.summary["pushed"]["path"])


def output(project: Project, run: Run, step: str, field: str) -> Path:
    return Store(project.home).object_path(digests(run.summary)[step][field])


def test_first_run_runs_every_step_and_publishes(first: Run) -> None:
    assert steps(first.summary) == dict.fromkeys(STEPS, "run")
    assert first.summary["status"] == "succeeded"
    assert first.summary["verdict"]["passed"]
    assert first.summary["pushed"]["version"] == 1


def test_summary_names_data_accuracies_verdict_version_and_report(
    first_run: First, first: Run
) -> None:
    facts = {s["name"]: s["facts"] for s in first.summary["steps"]}["evaluator"]
    told = dict(line.split(maxsplit=1) for line in first.printed.splitlines()[-8:])
    assert f"data set  {first.summary['dataset']}" in first.printed
    assert f"{facts['candidate_accuracy']:.4f} with batch normalisation" in told["accuracy"]
    assert f"{facts['baseline_accuracy']:.4f} without" in told["accuracy"]
    assert told["verdict"] == first.summary["verdict"]["sentence"]
    assert told["pushed"] == f"v1 is live in {first_run.project.home}/served/mnist/1"
    assert Path(told["report"]).is_file()
    assert all(f"{step} " in told["seconds"] for step in STEPS)


def test_report_holds_all_that_a_reader_asks_for(first: Run) -> None:
    report = json.loads(Path(first.summary["folder"], "report.json").read_text())
    assert report["config"]["data"]["dataset"] == report["dataset"] == "rendered_digits"
    assert {"candidate", "baseline"} <= report["evaluation"]["models"].keys()
    assert {rule["name"] for rule in report["blessing"]["rules"]} >= {"accuracy_floor"}
    assert [s["name"] for s in report["steps"]] == list(STEPS)
    assert all(s["reasons"] for s in report["steps"])


def test_report_is_drawn_with_what_every_gate_found(project: Project, first: Run) -> None:
    told = project.json("report", first.summary["id"])
    page = Path(told["report"]).read_text()
    for step in first.summary["steps"]:
        if step["verdict"] is not None:
            assert html.escape(step["verdict"]["sentence"].partition(": ")[2]) in page
    for section in ("Rules", "Evaluation", "Training", "Serving", "Data", "Steps"):
        assert f">{section}</a>" in page


def test_second_run_is_cached_and_imports_no_framework(first_run: First, first: Run) -> None:
    again = first_run.again
    assert steps(again.summary) == dict.fromkeys(STEPS, "cached") | {"pusher": "keep"}
    assert "heavy: none" in again.printed
    assert digests(again.summary) == digests(first.summary)


@pytest.mark.slow
def test_one_step_at_a_time_gives_the_same_bytes(make_project: MakeProject) -> None:
    """Both networks at the same time, and everything made ready ahead, change nothing."""
    made = []
    for jobs in ("1", "2"):
        project = make_project(SMALL)
        made.append(project.json("run", "--jobs", jobs))
        project.call("run", "--jobs", jobs, "--verify")
    one, two = made
    assert {step["worker"] for step in one["steps"]} == {0}
    trained = [s for s in two["steps"] if s["component"] == "trainer"]
    first, second = sorted(trained, key=lambda step: step["started"])
    assert second["started"] < first["started"] + first["seconds"]
    assert first["worker"] != second["worker"]
    assert digests(one) == digests(two)


def test_changed_parameter_reruns_what_depends_on_it(changed: Change) -> None:
    """That all runs that the plan names is in test_readme.py."""
    planned = {s["name"]: (s["action"], s["reasons"]) for s in changed.plan["steps"]}
    assert [name for name, (action, _) in planned.items() if action == "run"] == list(STEPS[5:])
    assert planned["trainer"][1][0]["sentence"] == "epochs: 6 -> 2"
    assert steps(changed.run) == dict.fromkeys(BEHIND, "cached") | {"trainer": "run"}


def test_killed_training_ends_in_the_same_bytes(copy: Project, changed: Change) -> None:
    known = len(copy.json("runs"))
    child = copy.start("run", *CHANGE, "--to", "trainer")
    killed = copy.home / "runs" / f"{known + 1:04}"
    events = killed / "events.jsonl"
    while '"StepStarted"' not in (events.read_text() if events.exists() else ""):
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)
    time.sleep(0.5)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    summary = copy.json("run", *CHANGE, "--to", "trainer")
    assert steps(summary) == dict.fromkeys(BEHIND, "cached") | {"trainer": "run"}
    assert digests(summary)["trainer"] == digests(changed.run)["trainer"]
    assert copy.json("show", killed.name)["status"] == "killed"


def test_a_model_without_a_real_server_is_stopped_where_one_is_required(copy: Project) -> None:
    command = ("run", "--set", "serving.require_real_server=true", "--json")
    told = json.loads(copy.call(*command, exit_code=3, PATH="/nowhere"))
    assert steps(told)["infra_validator"] == "run"
    assert steps(told)["pusher"] == "stopped"
    assert told["verdict"]["sentence"].startswith("not served: serving.require_real_server is set")


def test_pushed_model_answers_every_signature_alike(
    project: Project, first: Run, model: Any
) -> None:
    import tensorflow as tf

    examples = Examples("", output(project, first, "example_gen", "examples"))
    transformed = TransformedExamples("", output(project, first, "transform", "transformed"))
    raw = next(read_batches(examples.shards("test")[0])).columns
    seen = read_transformed(transformed.shards("test")[:1])
    assert list(as_strings(raw["id"])[:8]) == list(seen.id[:8])
    info = DatasetInfo.read(examples.path)
    images = raw["image"][:8].reshape(-1, info.height, info.width)
    features = seen.features[:8]
    protos = [
        tf.train.Example(
            features=tf.train.Features(
                feature={"features": tf.train.Feature(float_list=tf.train.FloatList(value=row))}
            )
        ).SerializeToString()
        for row in features
    ]
    asked = {
        "serving_default": {"features": tf.constant(features)},
        "serve_images": {"images": tf.constant(images)},
        "serve_png": {"image_bytes": tf.constant([encode_stored(image) for image in images])},
        "classify": {"inputs": tf.constant(protos)},
        "probabilities_only": {"features": tf.constant(features)},
    }
    assert set(model.signatures) == set(asked)
    answers = {name: model.signatures[name](**request) for name, request in asked.items()}
    expected = answers["serving_default"]["probabilities"].numpy()
    assert expected.shape == (8, info.classes)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-5)
    for name, answer in answers.items():
        got = answer["scores" if name == "classify" else "probabilities"].numpy()
        np.testing.assert_allclose(got, expected, atol=1e-6, err_msg=name)
    classes = answers["serve_png"]["class_id"].numpy()
    assert list(classes) == list(expected.argmax(axis=1))
    assert (classes == seen.label[:8]).mean() >= 0.5


def test_served_version_leads_back_to_run_data_code_and_lock(project: Project, first: Run) -> None:
    found = project.json("show", "served/1")
    assert found["run"] == first.summary["id"]
    assert found["dataset"]["name"] == "rendered_digits"
    assert found["dataset"]["digest"] == digests(first.summary)["transform"]["transformed"]
    assert found["inputs"]["model"] == digests(first.summary)["trainer"]["model"]
    assert found["code"]["config_digest"] == first.summary["config_digest"]
    assert len(found["code"]["lock_digest"]) == 64


def test_export_is_the_model_that_was_pushed(project: Project, first: Run, tmp_path: Path) -> None:
    from bnpipe.serving.export.digest import tree_digest

    project.call("export", f"{first.summary['id']}/trainer", str(tmp_path / "model"))
    exported = tree_digest(tmp_path / "model" / "saved_model")
    assert exported == tree_digest(Path(first.summary["pushed"]["path"]))
