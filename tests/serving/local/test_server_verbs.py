"""`bnpipe serve`, `predict` and `smoke`, as one types them."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from bnpipe.data.png import encode_stored
from bnpipe.pipeline.cli.app import call
from bnpipe.serving.client.base import ServerError
from bnpipe.serving.errors import ServingError
from tests.child import environment
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(4)
    files = []
    for name in ("a.png", "b.png"):
        files.append(tmp_path / name)
        files[-1].write_bytes(encode_stored(generator.integers(0, 256, (28, 28), np.uint8)))
    return [str(file) for file in files]


def test_predict_prints_class_and_probability(rest_url, images, capsys):
    assert call(["predict", *images, "--url", rest_url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["file", "class", "probability"]
    assert [line.split()[0] for line in lines[1:]] == images


def test_predict_over_both_protocols_gives_the_same(rest_url, grpc_url, images, capsys):
    shown = []
    for url in (rest_url, grpc_url):
        assert call(["predict", *images, "--url", url, "--json", "--version", "1"]) == 0
        shown.append(json.loads(capsys.readouterr().out)["predictions"])
    over_rest, over_grpc = shown
    assert [row["version"] for row in over_grpc] == [1, 1]
    for rest, grpc in zip(over_rest, over_grpc, strict=True):
        assert rest["label"] == str(rest["class_id"])
        assert {**rest, "version": 1} == grpc


def test_predict_names_the_file_that_is_no_image(rest_url, images, tmp_path):
    (tmp_path / "bad.png").write_text("hello")
    with pytest.raises(ServingError) as raised:
        call(["predict", images[0], "bad.png", "--url", rest_url])
    assert raised.value.headline == (
        "bad.png: image_bytes: expected 8-bit grayscale PNG images, 28 wide and 28 high; "
        "received one with another header"
    )


def test_predict_of_a_file_that_is_not_there_is_a_mistake_in_typing(rest_url, capsys):
    assert call(["predict", "none.png", "--url", rest_url]) == 2
    assert "'none.png' does not exist" in capsys.readouterr().err


def test_predict_by_a_label_that_the_server_has_not(rest_url, images):
    with pytest.raises(ServingError, match="Unrecognized servable version label: nope") as raised:
        call(["predict", images[0], "--url", rest_url, "--label", "nope"])
    assert raised.value.hint == "ask for the highest version: --label ''"
    assert call(["predict", images[0], "--url", rest_url, "--label", ""]) == 0


def test_predict_without_a_server_says_what_to_type(images):
    with pytest.raises(ServerError) as raised:
        call(["predict", *images, "--url", "http://127.0.0.1:1", "--timeout", "0.3"])
    assert raised.value.hint == "start one: bnpipe serve"


def test_predict_logs(rest_url, images, tmp_path):
    assert call(["predict", *images, "--url", rest_url, "--log-to", "log"]) == 0
    (file,) = (tmp_path / "log").iterdir()
    assert file.name.startswith("requests-")
    assert file.stat().st_size > 1000


def test_smoke_passes_over_rest(rest_url, capsys):
    assert call(["smoke", "--url", rest_url, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["failed"], report["skipped"]) == (0, 0)
    assert report["passed"] == len(report["checks"]) > 12
    assert {row["over"] for row in report["checks"]} == {"REST"}


def test_smoke_passes_over_grpc_too(rest_url, grpc_url, capsys):
    address = grpc_url.removeprefix("grpc://")
    assert call(["smoke", "--url", rest_url, "--grpc", address, "--all"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"\d\d passed, 0 failed, 0 skipped", printed)
    for line in ("by label stable +REST +passed", "by label stable +gRPC +passed"):
        assert re.search(line, printed)


def test_smoke_says_what_is_wrong(rest_url, grpc_url, capsys, monkeypatch):
    from bnpipe.serving.local import inference

    predict = inference.predict

    def crooked(servable, signature, *rest):
        outputs = predict(servable, signature, *rest)
        if signature == "serve_images":
            outputs["probabilities"] = outputs["probabilities"][:, ::-1]
        return outputs

    monkeypatch.setattr(inference, "predict", crooked)
    address = grpc_url.removeprefix("grpc://")
    assert call(["smoke", "--url", rest_url, "--grpc", address, "--json"]) == 7
    report = json.loads(capsys.readouterr().out)
    wrong = [row for row in report["checks"] if row["outcome"] == "failed"]
    assert [(row["check"], row["over"]) for row in wrong] == [
        ("serve_images: as serving_default", over) for over in ("REST", "gRPC")
    ]
    assert wrong[0]["detail"].startswith("probabilities: expected [")
    assert call(["smoke", "--url", rest_url]) == 7
    assert "serve_images" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["half an answer", "a refusal", "no refusal"])
def test_smoke_finds_every_kind_of_fault(rest_url, capsys, monkeypatch, fault):
    from bnpipe.serving.local import inference
    from bnpipe.serving.local.status import Code, StatusError

    predict = inference.predict

    def broken(servable, signature, inputs, *rest):
        if fault == "a refusal" and signature == "serve_png":
            raise StatusError(Code.INTERNAL, "a kernel of the server is broken")
        if fault == "no refusal" and inputs.get("features", np.zeros((1, 784))).shape[1] == 783:
            inputs = {"features": np.zeros((1, 784), np.float32)}
        outputs = predict(servable, signature, inputs, *rest)
        if fault == "half an answer":
            del outputs["class_id"]
        return outputs

    monkeypatch.setattr(inference, "predict", broken)
    assert call(["smoke", "--url", rest_url]) == 7
    printed = " ".join(capsys.readouterr().out.split())
    assert {
        "half an answer": "cannot read the answer",
        "a refusal": "a kernel of the server is broken",
        "no refusal": "expected a refusal, received an answer",
    }[fault] in printed


def test_smoke_without_a_server_or_a_model(rest_url):
    with pytest.raises(ServerError, match="no server at"):
        call(["smoke", "--url", "http://127.0.0.1:1"])
    with pytest.raises(ServerError, match="Servable not found for request: Latest"):
        call(["smoke", "--url", rest_url, "--model", "nope"])


def test_predict_and_smoke_over_rest_import_no_tensorflow(rest_url, images):
    code = (
        "import sys\n"
        "from bnpipe.pipeline.cli.app import call\n"
        f"codes = [call(['predict', *{images!r}, '--url', {rest_url!r}]),\n"
        f"    call(['smoke', '--url', {rest_url!r}])]\n"
        "heavy = {'tensorflow', 'grpc', 'apache_beam'} & set(sys.modules)\n"
        "sys.exit(f'{codes} {heavy}' if any(codes) or heavy else 0)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


def test_serve_without_a_published_model(tmp_path):
    with pytest.raises(ServingError, match="nothing is published in") as raised:
        call(["serve", "--set", f"serving.base_path={tmp_path}/none"])
    assert raised.value.hint == "publish a model: bnpipe run"


def test_serve_starts_a_real_server_if_there_is_one(served, tmp_path):
    binary = tmp_path / "tensorflow_model_server"
    binary.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    binary.chmod(0o755)
    code = "from bnpipe.pipeline.cli import main; main()"
    words = ["serve", "--port", "8601", "--grpc-port", "0", "--set", f"serving.base_path={served}"]
    run = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env=environment(PATH=f"{tmp_path}:{os.environ['PATH']}"),
        check=True,
    )
    flags = run.stdout.splitlines()[1:]
    assert "--rest_api_port=8601" in flags
    assert "--port=0" not in flags
    assert f"--model_config_file={served}/models.config" in flags
    assert "--allow_version_labels_for_unavailable_models=true" in flags
    assert f"--monitoring_config_file={served}/monitoring.config" in flags
    assert "--num_load_threads=2" in flags and "--enable_profiler=false" in flags
    assert not any("batching" in flag for flag in flags)


def test_serve_names_what_is_no_program(served, tmp_path):
    for words in (["--binary", str(tmp_path)], ["--set", f"serving.server_binary={tmp_path}"]):
        with pytest.raises(ServingError, match=f"expected a program, received {tmp_path}"):
            call(["serve", "--set", f"serving.base_path={served}", *words])


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_serve_runs_the_stand_in_until_it_is_stopped(number, served, images):
    code = "from bnpipe.pipeline.cli import main; main()"
    words = ["serve", "--port", "0", "--grpc-port", "0", "--set", f"serving.base_path={served}"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PATH="/nowhere"),  # a machine without the real server
    )
    try:
        assert process.stdout is not None
        lines = []
        while not lines or not lines[-1].startswith("serving "):
            line = process.stdout.readline()
            assert line, f"it ended: {lines}"
            lines.append(line.rstrip())
        assert "not on PATH. With Docker:" in lines[0]
        assert any("stand-in for TensorFlow Serving" in line for line in lines)
        url = lines[-1].split()[1].removeprefix("rest=")
        assert url.startswith("http://127.0.0.1:")
        assert call(["predict", *images, "--url", url]) == 0
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert "oneDNN" not in process.stderr.read()  # TensorFlow's own lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


@pytest.mark.parametrize("number", range(2))
def test_predict_and_smoke_ask_this_machine_without_the_proxy(
    rest_url, grpc_url, images, monkeypatch, number
):
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # where nobody is
    address = grpc_url.removeprefix("grpc://")
    words = [
        ["predict", *images, "--url", grpc_url, "--timeout", "5"],
        ["smoke", "--url", rest_url, "--grpc", address],
    ]
    assert call(words[number]) == 0


def test_nothing_of_tensorflow_is_on_the_terminal(rest_url, grpc_url, images):
    address = grpc_url.removeprefix("grpc://")
    for words in (
        ["smoke", "--url", rest_url, "--grpc", address],
        ["predict", *images, "--url", rest_url, "--log-to", "log"],
    ):
        code = "from bnpipe.pipeline.cli import main; main()"
        run = subprocess.run(
            [sys.executable, "-c", code, *words], env=environment(), capture_output=True, text=True
        )
        assert (run.returncode, run.stderr) == (0, "")
