"""The ports: connections, bodies, a stop in the middle."""

import http.client
import socket
import threading
import time
from pathlib import Path

import pytest

from bnpipe.serving.client.connect import connect as client_of
from bnpipe.serving.local.grpc_service import GrpcServer
from bnpipe.serving.local.http import RestServer
from bnpipe.serving.local.states import State, Version
from tests.waiting import PATIENCE


class SlowApi:
    """Answers after a while, with what it was asked."""

    def __init__(self):
        self.asked = threading.Event()

    def answer(self, method, path, headers, body):
        from bnpipe.serving.local.api import Reply

        self.asked.set()
        if path == "/slow":
            time.sleep(0.5)
        return Reply(200, body or path.encode())


@pytest.fixture
def slow():
    api = SlowApi()
    return api, RestServer(api, "127.0.0.1", 0)


def connect(server):
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)


def test_a_connection_stays_open(slow):
    _, server = slow
    connection = connect(server)
    for path in ("/a", "/b"):
        connection.request("GET", path)
        assert connection.getresponse().read() == path.encode()
        assert connection.sock is not None
    server.stop(1)


def test_a_stop_answers_what_is_in_flight_and_takes_nothing_new(slow):
    api, server = slow
    connection = connect(server)
    connection.request("GET", "/slow")
    assert api.asked.wait(PATIENCE)
    server.stop(5)
    response = connection.getresponse()
    assert response.read() == b"/slow"
    assert response.headers["Connection"] == "close"
    with pytest.raises(ConnectionError):
        connect(server).request("GET", "/")


class SlowManager:
    """Tells a status after a while."""

    def __init__(self):
        self.asked = threading.Event()

    def statuses(self, name, version):
        self.asked.set()
        time.sleep(0.5)
        return [Version(3, Path(), State.AVAILABLE)]


def test_a_stop_answers_what_is_in_flight_over_grpc():
    manager = SlowManager()
    server = GrpcServer(manager, "127.0.0.1", 0)
    found = []
    with client_of(f"grpc://127.0.0.1:{server.port}", "m") as asking:
        thread = threading.Thread(target=lambda: found.extend(asking.status()))
        thread.start()
        assert manager.asked.wait(PATIENCE)
        server.stop(10)
        thread.join()
    assert [state.version for state in found] == [3]


def test_after_a_stop_an_open_connection_is_closed_without_an_answer(slow):
    """The models are gone by then: a wrong answer would be worse than none."""
    api, server = slow
    connection = connect(server)
    connection.request("GET", "/a")
    connection.getresponse().read()
    server.stop(1)
    api.asked.clear()
    connection.request("GET", "/b")
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    assert not api.asked.is_set()


def test_a_body_in_chunks(slow):
    _, server = slow
    connection = connect(server)
    connection.request("POST", "/", iter([b"ab", b"c"]), encode_chunked=True)
    assert connection.getresponse().read() == b"abc"
    server.stop(1)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: -1",
        "Content-Length: many",
        "Content-Length: 99999999999999",
        "Transfer-Encoding: chunked\r\n\r\n-5",
        "Transfer-Encoding: chunked\r\n\r\nxyz",
    ],
)
def test_a_length_that_makes_no_sense(slow, header):
    _, server = slow
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\n{header}\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
    server.stop(1)


def test_a_client_that_goes_away_harms_nobody(slow, capfd):
    _, server = slow
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\nshort")
    connection = connect(server)
    connection.request("GET", "/a")
    assert connection.getresponse().read() == b"/a"
    server.stop(1)
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken(slow):
    api, server = slow
    with pytest.raises(OSError, match="in use"):
        RestServer(api, "127.0.0.1", server.port)
    server.stop(1)
