"""Real SavedModels coming and going under a running server: cases 88 to 99."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.tfrecord import frame
from bnpipe.serving.client import ServerError, connect
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.servable import Servable
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


def push(base: Path, export: Path, version: int) -> None:
    staged = base / f".staging-{version}"
    shutil.copytree(export, staged)
    staged.rename(base / str(version))


def wait_for_end(client, version):
    with pytest.raises(ServerError) as raised:
        client.wait_until_available(version)
    return raised.value.headline


def test_bytes_of_a_live_version_are_read_once(client, base, exports):
    before = client.predict(FEATURES).outputs["probabilities"]
    for file in (base / "1").rglob("*"):
        if file.is_file():
            shutil.copyfile(exports[1] / file.relative_to(base / "1"), file)
    time.sleep(0.2)
    assert np.array_equal(client.predict(FEATURES).outputs["probabilities"], before)


def test_versions_that_cannot_be_loaded_end_and_the_old_one_stays(client, base, exports):
    (base / "2").mkdir()
    assert "END Could not find SavedModel .pb or .pbtxt" in wait_for_end(client, 2)
    staged = base / ".staging"
    shutil.copytree(exports[1], staged)
    (staged / "saved_model.pb").write_bytes(b"\x0a\xff")
    staged.rename(base / "3")
    assert "Can't parse" in wait_for_end(client, 3)
    (base / "4").write_text("a file named 4")
    assert "Could not find SavedModel" in wait_for_end(client, 4)
    shutil.copytree(exports[1], staged)
    shutil.rmtree(staged / "variables")
    staged.rename(base / "5")
    wait_for_end(client, 5)
    assert [s.version for s in client.status() if s.state == "AVAILABLE"] == [1]
    client.predict(FEATURES)


def test_other_tags_do_not_load(exports, tmp_path):
    shutil.copytree(exports[0], tmp_path / "1")
    pb = tmp_path / "1/saved_model.pb"
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString(pb.read_bytes())
    model.meta_graphs[0].meta_info_def.tags.append("x")
    pb.write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="matching supplied tags") as raised:
        Servable(tmp_path / "1")
    assert raised.value.code is Code.NOT_FOUND


def test_a_start_without_a_good_version_fails_with_the_reason(tmp_path):
    (tmp_path / "m/1").mkdir(parents=True)
    with pytest.raises(StatusError, match=r"did not become available.*Could not find SavedModel"):
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
    """Case 97: it says why, and exits; a container would start it again and again."""
    from bnpipe.serving.local.main import main

    flags = [f"--model_config_file={served}/models.config", "--rest_api_port=0", "--port=0"]
    assert main(flags) == 1
    told = capsys.readouterr()
    assert "stand-in for TensorFlow Serving" in told.out
    assert told.err.splitlines()[-1] == (
        "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 1 "
        "of model mnist, which is not currently available for inference"
    )


def resident_mb():
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


@pytest.mark.slow
def test_memory_levels_off_over_many_swaps(server, client, base, exports):
    """Case 99: what 50 swaps leave behind is less than what the first ten did."""
    sizes = []
    for version in range(2, 52):
        push(base, exports[version % 2], version)
        client.wait_until_available(version)
        client.predict(FEATURES)
        shutil.rmtree(base / str(version - 1))
        sizes.append(resident_mb())
    first, last = sizes[9] - sizes[0], sizes[49] - sizes[29]
    assert last < max(20.0, first), f"MiB after every swap: {[round(size) for size in sizes]}"
