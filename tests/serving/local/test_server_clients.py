"""Both clients against the stand-in, and what they log."""

import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.png import encode_stored
from bnpipe.data.records.tfrecord import read_runs
from bnpipe.serving.client.base import Options, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.client.request_log import RequestLog
from bnpipe.serving.errors import ServingError
from tests.waiting import PATIENCE

IMAGES = np.random.default_rng(2).integers(0, 256, (3, 28, 28), np.uint8)
FEATURES = (IMAGES.reshape(3, -1) / np.float32(255)).astype(np.float32)
PNGS = np.array([encode_stored(image) for image in IMAGES], object)


@pytest.fixture(params=["rest_url", "grpc_url"])
def client(request):
    with connect(request.getfixturevalue(request.param), "mnist") as client:
        yield client


def test_every_signature_gives_the_same(client):
    wanted = client.predict({"features": FEATURES}).outputs
    assert wanted["probabilities"].dtype == np.float32
    assert wanted["class_id"].dtype == np.int64
    for signature, inputs in (
        ("serve_images", {"images": IMAGES}),
        ("serve_png", {"image_bytes": PNGS}),
        ("probabilities_only", {"features": FEATURES}),
    ):
        outputs = client.predict(inputs, signature=signature, label="stable").outputs
        np.testing.assert_allclose(outputs["probabilities"], wanted["probabilities"], atol=1e-6)
    rows = client.classify([{"features": row} for row in FEATURES], version=1)
    assert [[label for label, _ in row] for row in rows] == [list("0123456789")] * 3
    scores = [[score for _, score in row] for row in rows]
    np.testing.assert_allclose(scores, wanted["probabilities"], atol=1e-6)


def test_both_clients_agree(rest_url, grpc_url):
    with connect(rest_url, "mnist") as rest, connect(grpc_url, "mnist") as grpc:
        over_rest, over_grpc = (c.predict({"features": FEATURES}) for c in (rest, grpc))
        assert (over_rest.version, over_grpc.version) == (None, 1)
        for name, array in over_grpc.outputs.items():
            assert np.array_equal(array, over_rest.outputs[name])
        assert rest.status() == grpc.status()
        assert set(rest.metadata()["metadata"]["signature_def"]["signature_def"]) == set(
            grpc.metadata()["metadata"]["signature_def"]["signature_def"]
        )


def test_the_servers_own_words(client):
    with pytest.raises(ServerError, match="Matrix size-incompatible"):
        client.predict({"features": FEATURES[:, 1:]})
    with pytest.raises(ServerError, match=r"Servable not found for request: Specific\(mnist, 9\)"):
        client.predict({"features": FEATURES}, version=9)
    with pytest.raises(ServerError, match="Unrecognized servable version label: bogus"):
        client.predict({"features": FEATURES}, label="bogus")
    with pytest.raises(ServerError, match="Could not find version 9 of model mnist"):
        client.status(9)
    with pytest.raises(ServerError, match="expected 8-bit grayscale PNG images"):
        client.predict({"image_bytes": np.array([b"hello"], object)}, signature="serve_png")


def test_grpc_without_a_server():
    with pytest.raises(ServerError, match=r"no server at grpc://127\.0\.0\.1:1") as raised:
        connect("grpc://127.0.0.1:1", "mnist", Options(timeout=1, attempts=2)).status()
    assert raised.value.hint == "start one: bnpipe serve" and not raised.value.broken


def test_a_grpc_connection_that_dies_under_a_request():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up():
            connection, _ = listener.accept()
            frame = struct.pack(">I", 0)[1:] + b"\x04\x00" + struct.pack(">I", 0)  # empty SETTINGS
            connection.sendall(frame)
            while b"GetModelStatus" not in connection.recv(1 << 16):
                pass
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"grpc://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServerError, match="no server at") as raised:
            connect(url, "mnist", Options(timeout=PATIENCE, attempts=1)).status()
    thread.join(PATIENCE)
    assert raised.value.broken


@pytest.fixture
def busy_queue():
    """A gRPC server whose queue is full, as the real one says it."""
    text = "The batch scheduling queue to which this task was submitted is full"

    def predict(request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, text)

    handler = grpc.unary_unary_rpc_method_handler(predict)
    running = grpc.server(ThreadPoolExecutor(2))
    service = "tensorflow.serving.PredictionService"
    running.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Predict": handler})]
    )
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"grpc://127.0.0.1:{port}", text
    running.stop(None)


def test_a_full_queue_is_told_in_the_servers_words_and_not_as_no_server(busy_queue):
    url, text = busy_queue
    options = Options(attempts=2, backoff=0.01)
    with connect(url, "mnist", options) as client, pytest.raises(ServerError) as raised:
        client.predict({"features": FEATURES})
    assert (raised.value.headline, raised.value.hint) == (text, "")
    assert raised.value.transient


def test_a_deadline_over_grpc():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        told = pytest.raises(ServerError, match=r"did not answer within 0\.3 s")
        with connect(url, "mnist", Options(timeout=0.3, attempts=1)) as client, told:
            client.status()


def test_requests_and_answers_are_logged(rest_url, grpc_url, tmp_path):
    log = RequestLog(tmp_path / "log")
    for url in (rest_url, grpc_url):
        with connect(url, "mnist", Options(log=log)) as client:
            client.predict({"image_bytes": PNGS}, signature="serve_png", label="stable")
    log.close()
    records = [row.tobytes() for run in read_runs(log.path) for row in run.payload]
    logs = [prediction_log_pb2.PredictionLog.FromString(r).predict_log for r in records]
    assert [entry.request.model_spec.signature_name for entry in logs] == ["serve_png"] * 2
    assert [list(entry.request.inputs["image_bytes"].string_val) for entry in logs] == [
        list(PNGS)
    ] * 2
    assert logs[1].response.model_spec.version.value == 1
    assert set(logs[0].response.outputs) == {"class_id", "probabilities"}
    assert log.path.stat().st_mode & 0o077 == 0


def test_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="cannot log requests"):
        RequestLog(tmp_path / "file/log")
