"""Real SavedModels coming and going under the stand-in: what it does by itself, and its warmup.

What it has in common with TensorFlow Serving is in tests/serving/conformance.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.records.tfrecord import frame
from bnpipe.serving.client.base import LoadFailed
from bnpipe.serving.client.connect import connect
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.server import LocalServer
from bnpipe.serving.local.states import Settings
from bnpipe.serving.local.status import Code, StatusError
from bnpipe.serving.local.warmup import WARMUP_FILE, load_and_warm_up

QUICK = Settings(poll_wait_seconds=0.05, max_num_load_retries=0, load_retry_seconds=0.05)
FEATURES = {"features": np.zeros((1, 784), np.float32)}


@pytest.fixture
def base(tmp_path, exports):
    base = tmp_path / "mnist"
    base.mkdir()
    shutil.copytree(exports[0], base / "1")
    return base


@pytest.fixture
def server(base):
    running = LocalServer([ModelEntry("mnist", str(base))], QUICK)
    yield running
    running.stop()


@pytest.fixture
def client(server):
    with connect(f"http://127.0.0.1:{server.rest_port}", "mnist") as client:
        yield client


def push(base, export, version, spoil=lambda folder: None):
    staged = base / f".staging-{version}"
    shutil.copytree(export, staged)
    spoil(staged)
    staged.rename(base / str(version))


def test_a_version_without_variables_does_not_load(client, base, exports):
    """TensorFlow Serving makes it AVAILABLE and fails every request."""
    push(base, exports[1], 2, lambda folder: shutil.rmtree(folder / "variables"))
    with pytest.raises(LoadFailed):
        client.wait_until_available(2)
    assert [s.version for s in client.status() if s.state == "AVAILABLE"] == [1]


def test_a_file_is_no_version(client, base):
    (base / "2").write_text("a file named 2")
    with pytest.raises(LoadFailed, match="does not appear to contain a SavedModel bundle"):
        client.wait_until_available(2)


def test_a_start_without_a_good_version_fails_with_the_reason(tmp_path):
    (tmp_path / "m/1").mkdir(parents=True)
    with pytest.raises(StatusError, match=r"did not become available.*contain a SavedModel"):
        LocalServer([ModelEntry("m", str(tmp_path / "m"))], QUICK)


def warmup(export: Path, folder: Path, logs) -> Path:
    shutil.copytree(export, folder)
    (folder / "assets.extra").mkdir(exist_ok=True)
    records = [np.frombuffer(log.SerializeToString(), np.uint8) for log in logs]
    content = b"".join(frame(record[None]).tobytes() for record in records)
    (folder / WARMUP_FILE).write_bytes(content)
    return folder


def predict_log(signature="serving_default", width=784):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.inputs["features"].CopyFrom(tf.make_tensor_proto(np.zeros((2, width), np.float32)))
    return log


def classify_log():
    log = prediction_log_pb2.PredictionLog()
    request = log.classify_log.request
    request.model_spec.signature_name = "classify"
    example = request.input.example_list.examples.add()
    example.features.feature["features"].float_list.value.extend([0.0] * 784)
    return log


def test_warmup_requests_are_replayed(exports, tmp_path):
    logs = [predict_log(), classify_log(), prediction_log_pb2.PredictionLog()]
    load_and_warm_up(warmup(exports[0], tmp_path / "1", logs)).close()


@pytest.mark.parametrize(
    ("logs", "error"),
    [
        ([predict_log("nope")], 'Serving signature key "nope" not found.'),
        ([predict_log(width=783)], "Matrix size-incompatible"),
        ([prediction_log_pb2.PredictionLog()] * 1001, "exceeds the maximum"),
    ],
    ids=["signature", "width", "1001 records"],
)
def test_a_warmup_request_that_fails_fails_the_load(exports, tmp_path, logs, error):
    with pytest.raises(StatusError, match=error):
        load_and_warm_up(warmup(exports[0], tmp_path / "1", logs))


def test_a_damaged_warmup_file_fails_the_load(exports, tmp_path):
    folder = warmup(exports[0], tmp_path / "1", [predict_log()])
    (folder / WARMUP_FILE).write_bytes((folder / WARMUP_FILE).read_bytes()[:-3])
    with pytest.raises(StatusError, match="verify your warmup data is in TFRecord format") as e:
        load_and_warm_up(folder)
    assert e.value.code is Code.DATA_LOSS


def test_the_process_with_labels_needs_the_flag(served, capsys):
    """It says why, and exits; a container would start it again and again."""
    from bnpipe.serving.local.main import main

    flags = [f"--model_config_file={served}/models.config", "--rest_api_port=0", "--port=0"]
    assert main(flags) == 1
    printed = capsys.readouterr()
    assert "stand-in for TensorFlow Serving" in printed.out
    assert printed.err.splitlines()[-1] == (
        "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 1 "
        "of model mnist, which is not currently available for inference"
    )


def resident_mb():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


@pytest.mark.slow
def test_memory_levels_off_over_many_swaps(server, client, base, exports):
    """50 swaps leave less behind than the first ten did."""
    sizes = []
    for version in range(2, 52):
        push(base, exports[version % 2], version)
        client.wait_until_available(version)
        client.predict(FEATURES)
        shutil.rmtree(base / str(version - 1))
        sizes.append(resident_mb())
    first, last = sizes[9] - sizes[0], sizes[49] - sizes[29]
    assert last < max(20.0, first), f"MiB after every swap: {[round(size) for size in sizes]}"
