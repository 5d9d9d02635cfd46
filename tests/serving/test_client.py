"""The clients: retries and deadlines against a scripted server; answers are in local/."""

import contextlib
import http.server
import threading
import time

import numpy as np
import pytest

from serving.client import Options, ServerError, connect
from serving.errors import ServingError

OK = b'{"model_version_status": [{"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]}'  # noqa: E501
BUSY = b'{"error": "queue is full"}'


class Scripted(http.server.ThreadingHTTPServer):
    """Answers with the given statuses in turn, the last one for ever."""

    def __init__(self, *script):
        self.script, self.requests, self.connections = list(script), [], 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        script = self.server.script
        step = script.pop(0) if len(script) > 1 else script[0]
        self.server.requests.append(self.path)
        if step == "drop":
            self.close_connection = True
            return
        if step == "hang":
            time.sleep(1)
            return
        status, body = step
        self.wfile.write(
            b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)
        )

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
    with pytest.raises(ServerError, match="queue is full") as raised:
        client(server, attempts=3).status()
    assert raised.value.status == 503
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
    assert raised.value.hint == "start one: bnpipe serve"


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
    with pytest.raises(ServerError, match="expected AVAILABLE within 60 s, received END torn"):
        client(scripted((200, state(b"END", b"torn")))).wait_until_available(3)


def test_waiting_has_an_end(scripted, client):
    with pytest.raises(ServerError, match="received LOADING"):
        client(scripted((200, state(b"LOADING")))).wait_until_available(3, timeout=0.2)
