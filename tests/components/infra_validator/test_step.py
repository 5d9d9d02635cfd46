"""The step: verdicts about the model, faults of everything else, and nothing left running."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from bnpipe.components.infra_validator import COMPONENT, Inputs, Params, work
from bnpipe.components.infra_validator.process import Process
from bnpipe.components.infra_validator.servers import BINARY, STAND_IN, Server
from bnpipe.components.infra_validator.step import probe
from bnpipe.serving.errors import ServingError
from tests.components.infra_validator.candidates import bless

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def no_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.fixture
def run(run_component: Run, inputs: Inputs, tmp_path: Path) -> Run:
    """Runs the step; returns its verdict and its facts."""

    def run(params: Params | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
        done = run_component(COMPONENT, inputs, params or Params(), tmp_path / "out")
        blessing = done.outputs.infra_blessing
        return blessing.read_json("verdict.json"), done.facts

    return run


def test_a_good_model_is_served_by_the_stand_in(run: Run, tmp_path: Path) -> None:
    verdict, facts = run()
    assert verdict["passed"] is True
    assert verdict["sentence"].startswith("served by stand-in (weaker: no TensorFlow Serving here)")
    assert (verdict["server"], verdict["weaker"], verdict["findings"]) == (STAND_IN, True, [])
    assert [check["outcome"] for check in verdict["checks"][STAND_IN]] == ["ok"] * 5
    assert (tmp_path / "out/infra_blessing/INFRA_BLESSED").exists()
    assert facts["server"] == STAND_IN and facts["weaker"] is True
    for name in ("rest_p50_ms", "rest_p99_ms", "grpc_p50_ms", "grpc_p99_ms", "start_seconds"):
        assert facts[name] > 0
    served = tmp_path / "out/scratch/candidate/1/saved_model.pb"
    assert served.samefile(tmp_path / "model/saved_model/saved_model.pb")


def test_an_operation_outside_the_list_is_refused(run: Run, inputs: Inputs, tmp_path: Path) -> None:
    path = inputs.model.saved_model / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].graph_def.node.add(name="spy", op="PyFunc")
    path.write_bytes(model.SerializeToString())
    bless(inputs)
    verdict, _ = run()
    assert verdict["passed"] is False
    assert verdict["sentence"] == (
        "not served: the graph has PyFunc, which calls Python; a server has none"
    )
    assert verdict["findings"][0]["code"] == "op"
    assert verdict["checks"] == {}
    assert (tmp_path / "out/infra_blessing/INFRA_NOT_BLESSED").exists()


def test_a_wrong_answer_is_refused_and_the_log_is_kept(run: Run, inputs: Inputs) -> None:
    file = inputs.evaluation.path / "golden.npz"
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["serve_images/answer/probabilities"][0] += 0.01
    np.savez(file, **arrays)
    verdict, facts = run()
    assert verdict["passed"] is False
    assert verdict["sentence"].startswith(
        "not served: stand-in: predict over REST: serve_images: probabilities differs by 0.01"
    )
    assert "candidate version 1 is available" in facts["server_log"]


def test_a_model_that_passes_the_lint_and_cannot_be_loaded_is_refused(
    run: Run, inputs: Inputs
) -> None:
    """The restore function is gone from the top of the graph."""
    path = inputs.model.saved_model / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs[0].saver_def.restore_op_name = "nowhere"
    path.write_bytes(model.SerializeToString())
    bless(inputs)
    verdict, facts = run()
    assert verdict["passed"] is False
    assert verdict["sentence"].startswith("not served: it cannot be loaded: ")
    assert "did not become available" in verdict["sentence"]
    assert str(inputs.model.path.parent) not in verdict["sentence"]
    assert "Failed to start server" in facts["server_log"]


def test_a_tampered_byte_is_a_fault(run: Run, inputs: Inputs) -> None:
    """It makes a valid graph, which is not the one that was judged."""
    path = inputs.model.saved_model / "saved_model.pb"
    path.write_bytes(path.read_bytes().replace(b"image_bytes: expected", b"image_bytes: Expected"))
    with pytest.raises(ServingError, match=r"the blessing is for another model.*evaluate again"):
        run()


def test_a_server_that_dies_while_it_is_asked_is_a_fault(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(process: Process, deadline: float) -> Any:
        found = wait(process, deadline)
        process._child.kill()
        process._child.wait()
        return found

    wait = Process.wait_until_serving
    monkeypatch.setattr(Process, "wait_until_serving", die)
    with pytest.raises(ServingError, match=r"ended while it was asked \(signal SIGKILL\)"):
        run()


def test_the_stand_in_is_not_enough_where_a_real_server_is_required(run: Run) -> None:
    verdict, facts = run(Params(require_real_server=True))
    assert verdict["passed"] is False
    assert verdict["sentence"].startswith("not served: serving.require_real_server is set")
    assert verdict["checks"] == {} and facts["server"] == STAND_IN


def test_another_server_than_planned_is_a_fault(inputs: Inputs, tmp_path: Path) -> None:
    from types import SimpleNamespace

    context: Any = SimpleNamespace(outside={"server": "tensorflow/serving:2.21.0 sha256:abc"})
    with pytest.raises(ServingError, match="the server changed meanwhile"):
        work.judge(inputs, None, Params(), context)  # type: ignore[arg-type]


def test_the_key_says_which_server_there_is(tmp_path: Path) -> None:
    assert probe(Params(), tmp_path) == {"server": STAND_IN}
    found = probe(Params(server_binary=sys.executable), tmp_path)
    assert found["server"].startswith(BINARY)
    assert sys.executable not in found["server"]  # where it lies says nothing


def test_links_are_seen_by_the_lint_not_followed(run: Run, inputs: Inputs, tmp_path: Path) -> None:
    shutil.move(inputs.model.saved_model / "variables", tmp_path / "variables")
    (inputs.model.saved_model / "variables").symlink_to(tmp_path / "variables")
    verdict, _ = run()
    assert "variables: expected a plain file, received a symbolic link" in verdict["sentence"]


STAND_IN_AS_BINARY = """
known = ("rest_api_port", "port", "model_name", "model_base_path", "max_num_load_retries")
kept = [f"--{name}={flags[name]}" for name in known]
os.execv(sys.executable, [sys.executable, "-m", "bnpipe.serving.local", *kept])
"""


@pytest.mark.slow
def test_a_real_server_is_asked_after_the_stand_in(
    run: Run, fake: Callable[[str], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    binary = fake(STAND_IN_AS_BINARY).program
    verdict, facts = run(Params(server_binary=binary, require_real_server=True))
    assert verdict["passed"] is True
    assert (verdict["server"], verdict["weaker"]) == (BINARY, False)
    assert list(verdict["checks"]) == [STAND_IN, BINARY]
    assert "weaker" not in verdict["sentence"]
    assert facts["server"] == BINARY


@pytest.mark.tf_serving
def test_tensorflow_serving_serves_the_model(run: Run, tf_serving: Path) -> None:
    verdict, _ = run(Params(server_binary=str(tf_serving)))
    assert verdict["passed"] is True and verdict["weaker"] is False, json.dumps(verdict)
