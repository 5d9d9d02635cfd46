"""The clients: retries and deadlines against a scripted server; answers are in local/."""

import contextlib
import http.server
import json
import threading
import time

import numpy as np
import pytest

from bnpipe.serving.client.base import Options, ServerError, is_loopback
from bnpipe.serving.client.connect import connect
from bnpipe.serving.errors import ServingError
from tests.waiting import PATIENCE

OK = b'{"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}'  # noqa: E501
BUSY = b'{"error": "queue is full"}'


class Scripted(http.server.ThreadingHTTPServer):
    """Answers with the given statuses in turn, the last one for ever."""

    def __init__(self, *script):
        self.script, self.requests, self.connections = list(script), [], 0
        self.over, self.goodbye, self.gone = threading.Event(), False, threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        super().shutdown_request(request)
        self.gone.release()

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        script = self.server.script
        step = script.pop(0) if len(script) > 1 else script[0]
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if step == "drop":
            self.close_connection = True
            return
        if step == "hang":
            self.server.over.wait(PATIENCE)
            return
        status, body = step
        self.wfile.write(
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
        )
        self.close_connection = self.server.goodbye

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture
def scripted():
    servers = []

    def start(*script):
        servers.append(Scripted(*script))
        return servers[-1]

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def client():
    with contextlib.ExitStack() as opened:

        def make(server, **options):
            options.setdefault("backoff", 0.01)
            return opened.enter_context(connect(server.url, "mnist", Options(**options)))

        yield make


def test_a_busy_server_is_asked_again(scripted, client):
    server = scripted((503, BUSY), (429, BUSY), (200, OK))
    assert client(server).status()[0].version == 3
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_told_in_its_own_words(scripted, client):
    server = scripted((503, BUSY))
    with pytest.raises(ServerError) as raised:
        client(server, attempts=3).status()
    assert (raised.value.headline, raised.value.status) == ("queue is full", 503)
    assert len(server.requests) == 3


def test_a_refusal_is_not_repeated(scripted, client):
    server = scripted((404, b'{"error": "Could not find any versions of model mnist"}'))
    with pytest.raises(ServerError) as raised:
        client(server).status()
    assert raised.value.headline == "Could not find any versions of model mnist"
    assert len(server.requests) == 1


def test_an_answer_that_is_no_json(scripted, client):
    with pytest.raises(ServerError, match="HTTP status 404"):
        client(scripted((404, b"<H1>Not Found</H1>"))).status()
    with pytest.raises(ServerError, match="HTTP status 200"):
        client(scripted((200, b"[]"))).status()


def test_a_dropped_connection_is_replaced(scripted, client):
    server = scripted((200, OK), "drop", (200, OK))
    asking = client(server)
    asking.status()
    asking.status()
    assert server.connections == 2


def test_one_attempt_is_one_request_also_when_the_connection_drops(scripted, client):
    """Otherwise a request that the server lost would be counted as answered."""
    server = scripted((200, OK), "drop", (200, OK))
    asking = client(server, attempts=1)
    asking.status()
    with pytest.raises(ServerError, match=r"no server at .*RemoteDisconnected") as raised:
        asking.status()
    assert raised.value.transient and raised.value.broken
    assert len(server.requests) == 2
    assert asking.status()[0].version == 3


def test_a_connection_that_was_closed_before_the_request_did_not_die_under_it(scripted, client):
    """A server that was restarted since the last one."""
    server = scripted((200, OK))
    asking = client(server, attempts=1)
    server.goodbye = True
    asking.status()
    assert server.gone.acquire(timeout=PATIENCE)
    assert asking.status()[0].version == 3
    assert server.connections == 2


def test_waits_are_drawn_below_a_bound_that_doubles(scripted, client, monkeypatch):
    bounds, waits = [], []
    monkeypatch.setattr("random.uniform", lambda low, high: bounds.append((low, high)) or high)
    monkeypatch.setattr("bnpipe.serving.client.base.time.sleep", waits.append)
    with pytest.raises(ServerError, match="queue is full"):
        client(scripted((503, BUSY)), attempts=4, backoff=0.5).status()
    assert bounds == [(0, 0.5), (0, 1.0), (0, 2.0), (0, 4.0)]
    assert waits == [0.5, 1.0, 2.0]


def test_a_wait_that_would_outlast_the_deadline_is_not_begun(scripted, client, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    server = scripted((503, BUSY))
    begun = time.monotonic()
    with pytest.raises(ServerError, match="queue is full"):
        client(server, timeout=PATIENCE, backoff=2 * PATIENCE).status()
    assert len(server.requests) == 1
    assert time.monotonic() - begun < PATIENCE


def test_all_attempts_share_one_deadline(scripted, client):
    server = scripted((503, BUSY), (503, BUSY), "hang")
    with pytest.raises(ServerError, match="did not answer within 2 s"):
        client(server, timeout=2).status()
    assert len(server.requests) == 3


def metadata(outputs):
    infos = {name: {"dtype": dtype} for name, dtype in outputs.items()}
    signatures = {"signature_def": {"serving_default": {"outputs": infos}}}
    return json.dumps({"metadata": {"signature_def": signatures}}).encode()


def test_outputs_of_a_newer_version_are_looked_up_again(scripted, client):
    server = scripted(
        (200, b'{"outputs": {"a": [1], "b": [0.5]}}'),
        (200, metadata({"a": "DT_INT64", "b": "DT_FLOAT"})),
        (200, b'{"outputs": {"a": [2], "b": [NaN]}}'),
        (200, b'{"outputs": {"a": [3], "c_bytes": [{"b64": "/w=="}]}}'),
        (200, metadata({"a": "DT_INT64", "c_bytes": "DT_STRING"})),
    )
    asking = client(server)
    inputs = {"features": np.zeros((1, 2), np.float32)}
    first, second, third = (asking.predict(inputs).outputs for _ in range(3))
    assert (first["a"].dtype, first["b"].dtype) == (np.int64, np.float32)
    assert np.isnan(second["b"]).all()
    assert list(third["c_bytes"]) == [b"\xff"]
    assert sum("metadata" in path for path in server.requests) == 2


def test_one_connection_serves_many_requests(scripted, client):
    server = scripted((200, OK))
    asking = client(server)
    for _ in range(5):
        asking.status()
    assert server.connections == 1


def test_a_deadline_ends_it(scripted, client):
    with pytest.raises(ServerError, match=r"did not answer within 0\.2 s") as raised:
        client(scripted("hang"), timeout=0.2).status()
    assert raised.value.status == 504


def test_no_server_says_how_to_start_one():
    with pytest.raises(ServerError, match=r"no server at http://127\.0\.0\.1:1") as raised:
        connect("http://127.0.0.1:1", "mnist", Options(timeout=0.3)).status()
    assert raised.value.hint == "start one: bnpipe serve" and not raised.value.broken


@pytest.mark.parametrize("address", ["127.0.0.1:8501", "ftp://x", "http://"])
def test_addresses(address):
    with pytest.raises(ServingError, match="expected http://HOST:PORT or grpc://HOST:PORT"):
        connect(address, "mnist")


def test_versions_and_labels_stand_in_the_url(scripted, client):
    server = scripted((404, b'{"error": "x"}'))
    inputs = {"features": np.zeros((1, 2), np.float32)}
    for where in ({}, {"version": 7}, {"label": "a/b"}):
        with pytest.raises(ServerError):
            client(server).predict(inputs, **where)
    assert server.requests == [
        "/v1/models/mnist:predict",
        "/v1/models/mnist/versions/7:predict",
        "/v1/models/mnist/labels/a%2Fb:predict",
    ]


def state(name, message=b""):
    code = b"UNKNOWN" if message else b"OK"
    return (
        OK.replace(b"AVAILABLE", name)
        .replace(b'code": "OK', b'code": "' + code)
        .replace(b'error_message": "', b'error_message": "' + message)
    )


def test_waiting_for_a_version(scripted, client):
    server = scripted((404, BUSY), (200, state(b"LOADING")), (200, OK))
    client(server).wait_until_available(3)
    assert len(server.requests) == 3


def test_waiting_ends_when_the_server_gave_up(scripted, client):
    with pytest.raises(ServerError, match="expected AVAILABLE, received END torn"):
        client(scripted((200, state(b"END", b"torn")))).wait_until_available(3)


def test_waiting_has_an_end(scripted, client):
    with pytest.raises(ServerError, match="received LOADING"):
        client(scripted((200, state(b"LOADING")))).wait_until_available(3, timeout=0.2)


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1:8500", True),
        ("127.1.2.3:1", True),
        ("localhost:8500", True),
        ("[::1]:8500", True),
        ("0.0.0.0:8500", True),
        ("10.0.0.7:8500", False),
        ("localhost.example.org:8500", False),
        ("serving:8500", False),
    ],
)
def test_what_is_this_machine_is_known_by_its_address(address, here):
    assert is_loopback(address) is here
