"""The main job on the real thing, judged by what TFMA wrote."""

import json
from pathlib import Path

import pytest

from bnpipe.pipeline.engine.store import Store
from tests.integration.conftest import MakeProject, digests, steps


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_mnist_reaches_97_percent_and_is_published(
    make_project: MakeProject, mnist_archives: Path
) -> None:
    project = make_project("")
    archives = {"BNPIPE_ARCHIVES": str(mnist_archives)}
    summary = json.loads(project.call("run", "--json", **archives))
    assert summary["dataset"] == "mnist"
    assert summary["verdict"]["passed"]
    assert summary["pushed"]["version"] == 1

    import tensorflow_model_analysis as tfma

    evaluation = Store(project.home).object_path(digests(summary)["evaluator"]["evaluation"])
    result = tfma.load_eval_result(str(evaluation / "tfma"), model_name="candidate")
    accuracy = dict(result.slicing_metrics)[()][""][""]["accuracy"]["doubleValue"]
    assert accuracy >= 0.97
    facts = {s["name"]: s["facts"] for s in summary["steps"]}["evaluator"]
    assert facts["candidate_accuracy"] == pytest.approx(accuracy, abs=1e-6)

    again = json.loads(project.call("run", "--json", **archives))
    assert steps(again) == dict.fromkeys(steps(summary), "cached") | {"pusher": "keep"}
