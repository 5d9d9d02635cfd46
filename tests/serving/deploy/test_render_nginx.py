"""The rendered nginx, real, before the stand-in or before a server that fails on purpose."""

import dataclasses
import functools
import gzip
import http.client
import json
import os
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.serving.client.base import Options
from bnpipe.serving.client.connect import connect
from bnpipe.serving.client.soak import Rules
from bnpipe.serving.deploy.render import render
from bnpipe.serving.deploy.traffic import read
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.local.server import LocalServer
from tests.child import environment
from tests.serving.deploy.nginx import Front, command, configured, front, needs_nginx
from tests.serving.deploy.test_render import DEPLOYMENT
from tests.serving.local.test_server_labels_under_load import FOLLOWING, push
from tests.serving.model_server import Addresses, Load
from tests.waiting import PATIENCE, wait_for

pytestmark = needs_nginx
PREDICT = "/v1/models/mnist:predict"
ZEROS = {"instances": [[0.0] * 784]}
NOWHERE = Addresses("http://127.0.0.1:9", "grpc://127.0.0.1:9")


def rendered(share: float = 0.1, *, shadow: bool = False) -> str:
    deployment = dataclasses.replace(DEPLOYMENT, canary_share=share, shadow=shadow)
    return render("compose", deployment)["nginx.conf"]


def ask(
    url: str, path: str, body: Any = None, method: str = "POST", **headers: str
) -> tuple[int, str | None, bytes]:
    """Status, type and bytes of an answer."""
    connection = http.client.HTTPConnection(url.partition("//")[2], timeout=PATIENCE)
    try:
        data = body if body is None or isinstance(body, bytes | str) else json.dumps(body)
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def logged(at: Front, label: str | None = None) -> list[dict[str, Any]]:
    lines = (at.traffic / "requests.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if label is None or line["label"] == label]


MODES = [
    pytest.param(0.0, False, id="no share"),
    pytest.param(0.0001, False, id="the least share"),
    pytest.param(0.1, False, id="a tenth"),
    pytest.param(1.0, False, id="all of it"),
    pytest.param(0.1, True, id="shadow"),
]


@pytest.mark.parametrize(("share", "shadow"), MODES)
def test_nginx_takes_the_configuration(share, shadow, tmp_path):
    path, _ = configured(rendered(share, shadow=shadow), NOWHERE, tmp_path)
    tried = subprocess.run(
        command(path, "-t"),
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert tried.returncode == 0, tried.stderr
    assert "emerg" not in tried.stderr and "warn" not in tried.stderr


# before the stand-in


@dataclasses.dataclass
class Serving:
    """The stand-in with two versions that answer differently: v1 is stable; v2 may be canary."""

    base: Path
    at: Addresses
    rollout: Rollout

    def start(self) -> None:
        self.rollout.promote(2, label="canary")
        wait_for(lambda: ask(self.at.rest, under("canary"), ZEROS)[0] == 200)

    def withdraw(self) -> None:
        self.rollout.withdraw(2, reason="a drill")
        wait_for(lambda: ask(self.at.rest, under("canary"), ZEROS)[0] != 200)


def under(label: str) -> str:
    return f"/v1/models/mnist/labels/{label}:predict"


@pytest.fixture
def serving(tmp_path, exports, quick_disk):
    base = tmp_path / "served" / "mnist"
    push(base, exports, 1)
    push(base, exports, 2, hold=True)
    server = LocalServer(base / "models.config", FOLLOWING)
    at = Addresses(f"http://127.0.0.1:{server.rest_port}", f"grpc://127.0.0.1:{server.grpc_port}")
    both = [f"/v1/models/mnist/versions/{version}:predict" for version in (1, 2)]
    try:
        wait_for(lambda: {ask(at.rest, path, ZEROS)[0] for path in both} == {200})
        yield Serving(base, at, Rollout(base, (at.rest,), PATIENCE))
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("requests", "points"),
    [(1_000, 4.0), pytest.param(20_000, 1.0, marks=pytest.mark.slow)],
    ids=["quick", "slow"],
)
def test_a_tenth_of_the_requests_reaches_the_canary(serving, tmp_path, requests, points):
    """Told by the answers; the log says the same."""
    serving.start()
    answers = {ask(serving.at.rest, under(name), ZEROS): name for name in ("stable", "canary")}
    assert len(answers) == 2
    with front(rendered(0.1), serving.at, tmp_path / "nginx") as at:

        def many(count: int) -> Counter[str]:
            connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=PATIENCE)
            counts: Counter[str] = Counter()
            for _ in range(count):
                connection.request("POST", PREDICT, json.dumps(ZEROS))
                answer = connection.getresponse()
                counts[answers[answer.status, answer.headers["Content-Type"], answer.read()]] += 1
            connection.close()
            return counts

        with ThreadPoolExecutor(4) as pool:
            counts = sum(pool.map(many, [requests // 4] * 4), Counter())
    by_log = Counter(line["label"] for line in logged(at))
    assert counts.total() == requests and by_log == counts
    assert abs(100 * counts["canary"] / requests - 10) <= points, counts


def images(count: int) -> list[Any]:
    rows = np.random.default_rng(0).random((count, 784)).round(3)
    return [{"instances": [row.tolist()]} for row in rows]


@pytest.mark.parametrize("withdrawn", ["withdrawn", "never there"])
def test_in_shadow_clients_get_the_bytes_of_stable(serving, tmp_path, withdrawn):
    if withdrawn == "withdrawn":
        serving.start()
    bodies = images(60)
    direct = [ask(serving.at.rest, under("stable"), body) for body in bodies]
    with front(rendered(shadow=True), serving.at, tmp_path / "nginx") as at:
        before = [ask(at.rest, PREDICT, body) for body in bodies[:30]]
        if withdrawn == "withdrawn":
            serving.withdraw()
        after = [ask(at.rest, PREDICT, body) for body in bodies[30:]]
        wait_for(lambda: len(logged(at)) == 120)
        copies, own = logged(at, "canary"), logged(at, "stable")
    assert before + after == direct
    assert {line["id"] for line in copies} == {line["id"] for line in own}
    good = sum(line["upstream_status"] == "200" for line in copies)
    assert good == (30 if withdrawn == "withdrawn" else 0)


@pytest.mark.parametrize("shadow", [False, True])
def test_a_canary_that_comes_and_goes_costs_no_request(serving, tmp_path, shadow):
    with (
        front(rendered(0.5, shadow=shadow), serving.at, tmp_path / "nginx") as at,
        Load(at.rest, label=None) as load,
    ):
        wait_for(lambda: len(load.answers) >= 10)
        serving.start()
        until = len(load.answers) + 40
        wait_for(lambda: len(load.answers) >= until)
        serving.withdraw()
        until = len(load.answers) + 20
        wait_for(lambda: len(load.answers) >= until)
        assert load.failures == 0
    lines = logged(at, "canary")
    answered = sum(line["upstream_status"] == "200" for line in lines)
    absent = sum(line["canary"].startswith("400 ") for line in lines)
    assert answered >= 5 and absent >= 5
    assert {line["status"] for line in lines} <= ({200, 400} if shadow else {200})


@functools.cache
def refusals() -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Path, method, body, headers of what a server refuses."""
    wide = {"instances": [[0.0] * 783]}
    bomb = gzip.compress(bytes(101 << 20), 1)
    return {
        "bad JSON": (PREDICT, "POST", "{", {}),
        "empty": (PREDICT, "POST", "", {}),
        "no instances": (PREDICT, "POST", {}, {}),
        "wrong shape": (PREDICT, "POST", wide, {}),
        "unknown signature": (PREDICT, "POST", {"signature_name": "nope", **ZEROS}, {}),
        "too large": (PREDICT, "POST", bomb, {"Content-Encoding": "gzip"}),
        "unknown model": ("/v1/models/nope:predict", "POST", ZEROS, {}),
        "GET on predict": (PREDICT, "GET", None, {}),
        "PUT": (PREDICT, "PUT", ZEROS, {}),
        "a query": (f"{PREDICT}?x=1", "POST", ZEROS, {}),
        "unknown label": (under("nope"), "POST", ZEROS, {}),
        "unknown version": ("/v1/models/mnist/versions/9:predict", "POST", ZEROS, {}),
        "a version that is none": ("/v1/models/mnist/versions/one:predict", "POST", ZEROS, {}),
        "another verb": ("/v1/models/mnist:PREDICT", "POST", ZEROS, {}),
        "a line's end": (f"{PREDICT}%0a", "POST", ZEROS, {}),
        "a query in the path": (f"{PREDICT}%3Fx=1", "POST", ZEROS, {}),
        "no model": ("/v1/models", "GET", None, {}),
        "elsewhere": ("/healthz", "GET", None, {}),
        "bad classify": ("/v1/models/mnist:classify", "POST", {"examples": []}, {}),
    }


@pytest.mark.parametrize(
    ("share", "shadow", "canary"),
    [(1.0, False, True), (1.0, False, False), (0.0, False, True), (0.1, True, True)],
    ids=["by the canary", "without a canary", "by stable", "in shadow"],
)
def test_what_is_refused_is_refused_as_before(serving, tmp_path, share, shadow, canary):
    if canary:
        serving.start()
    with front(rendered(share, shadow=shadow), serving.at, tmp_path / "nginx") as at:
        for name, (path, method, body, headers) in refusals().items():
            direct = ask(serving.at.rest, path, body, method, **headers)
            assert direct[0] >= 400, name
            assert ask(at.rest, path, body, method, **headers) == direct, name
        # nginx has its own words for what is no URL.
        assert ask(at.rest, "/v1/models/%zz:predict", ZEROS)[0] == 400


@pytest.mark.parametrize("path", ["//v1/models/mnist:predict", "/v1/models/mnist%3Apredict"])
def test_no_spelling_of_the_path_gets_past_the_labels(faulty, tmp_path, path):
    """Without a label the server would answer with the highest version, which is the canary."""
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        assert ask(at.rest, path, ZEROS)[0] == 200
    assert [line["label"] for line in logged(at)] == ["stable"]


@pytest.mark.parametrize(("share", "shadow"), [(1.0, False), (0.0, False), (0.1, True)])
def test_what_passes_as_it_is(serving, tmp_path, share, shadow):
    """Status, metadata, labels, versions; large requests, in pieces and whole; gRPC."""
    with front(rendered(share, shadow=shadow), serving.at, tmp_path / "nginx") as at:
        for path in ("", "/metadata", "/labels/stable", "/labels/stable/metadata", "/versions/1"):
            direct = ask(serving.at.rest, f"/v1/models/mnist{path}", None, "GET")
            assert direct[0] == 200
            assert ask(at.rest, f"/v1/models/mnist{path}", None, "GET") == direct
        body = json.dumps({"instances": [[0.123456] * 784] * 500}).encode()
        assert len(body) > 3 << 20
        direct = ask(serving.at.rest, under("stable"), body)
        for path in (PREDICT, under("stable"), "/V1/models/mnist:predict"):
            assert ask(at.rest, path, body) == direct
        zipped = {"Content-Encoding": "gzip"}
        assert ask(at.rest, PREDICT, gzip.compress(body), **zipped) == direct
        pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
        connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=PATIENCE)
        connection.request("POST", PREDICT, iter(pieces), encode_chunked=True)
        assert connection.getresponse().read() == direct[2]
        connection.close()
        rows = np.random.default_rng(0).random((2000, 784), np.float32)  # 6 MB
        for image in (rows[:1], rows):
            with (
                connect(at.grpc, "mnist", Options(attempts=1)) as through,
                connect(serving.at.grpc, "mnist", Options(attempts=1)) as client,
            ):
                answers = [
                    c.predict({"features": image}, label="stable") for c in (through, client)
                ]
            one, other = (a.outputs["probabilities"] for a in answers)
            assert answers[0].version == answers[1].version == 1
            np.testing.assert_array_equal(one, other)


# before a server that fails on purpose


class Faulty(ThreadingHTTPServer):
    """Answers `stable`, and does with `canary` what `fault` says: a status, `drop` or `hang`.

    With `once` a connection that was kept is closed at its second request.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Failing)
        self.fault: int | str = 200
        self.bodies: list[tuple[str, bytes]] = []
        self.once = False
        self.seconds = 0.0
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def at(self) -> Addresses:
        return Addresses(f"http://127.0.0.1:{self.server_address[1]}", "grpc://127.0.0.1:9")


class Failing(BaseHTTPRequestHandler):
    server: Faulty
    protocol_version = "HTTP/1.1"
    answered = False

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.once and self.answered:
            self.close_connection = True
            return
        label = "canary" if "/labels/canary:" in self.path else "stable"
        self.server.bodies.append((label, body))
        status: int | str = 200 if label == "stable" else self.server.fault
        time.sleep(self.server.seconds)
        if status == "hang":
            self.server.released.wait(PATIENCE)
        if status in ("drop", "hang"):
            self.close_connection = True
            return
        answer = json.dumps({"label": label, "status": status}).encode()
        self.send_response(int(status))
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.answered = True

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def faulty():
    server = Faulty()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("fault", [400, 401, 403, 404, 409, 429, 500, 501, 503, 504, "drop"])
def test_what_the_canary_does_not_answer_stable_does(faulty, tmp_path, fault):
    """With the same body, also when it is too large to stay in memory."""
    faulty.fault = fault
    with front(rendered(1.0), faulty.at, tmp_path) as at:
        connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=PATIENCE)
        for body in (b"{}", b"x" * 3_000_000):
            faulty.bodies.clear()
            connection.request("POST", PREDICT, body)
            answered = connection.getresponse()
            assert answered.headers["Connection"] == "keep-alive"
            status, answer = answered.status, answered.read()
            assert (status, json.loads(answer)["label"]) == (200, "stable")
            assert {label for label, _ in faulty.bodies} == {"stable", "canary"}
            assert {received for _, received in faulty.bodies} == {body}
        connection.close()
    lines = logged(at)
    traffic, _ = read(at.traffic, Rules())
    shown = [
        line["canary"].partition(" ")[0] or line["upstream_status"].partition(" : ")[0]
        for line in lines
    ]
    assert shown == ["502" if fault == "drop" else str(fault)] * 2
    assert [line["upstream_status"].partition(" : ")[2] for line in lines] == ["200"] * 2
    label = traffic.canary.to_json()
    assert (label["failed"], label["absent"]) == ((0, 2) if fault == 404 else (2, 0))


def test_in_shadow_a_connection_waits_for_the_copy_but_not_for_ever(faulty, tmp_path):
    faulty.fault = "hang"
    text = rendered(shadow=True)
    assert text.count("proxy_read_timeout 5s;") == 1
    text = text.replace("proxy_read_timeout 5s;", "proxy_read_timeout 1s;")
    with front(text, faulty.at, tmp_path) as at:
        connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=PATIENCE)
        for _ in range(2):
            connection.request("POST", PREDICT, "{}")
            assert json.loads(connection.getresponse().read())["label"] == "stable"
        connection.close()
        wait_for(lambda: len(logged(at, "canary")) == 2)
    assert {line["upstream_status"] for line in logged(at, "canary")} == {"504"}


def test_in_shadow_no_answer_waits_for_the_canary(faulty, tmp_path):
    faulty.fault = "hang"
    with front(rendered(shadow=True), faulty.at, tmp_path) as at:
        status, _, answer = ask(at.rest, PREDICT, ZEROS)
        assert (status, json.loads(answer)["label"]) == (200, "stable")
        wait_for(lambda: len(faulty.bodies) == 2)
        assert logged(at) == []  # the canary still has its copy
        faulty.released.set()
    assert {line["label"]: line["upstream_status"] for line in logged(at)} == {
        "canary": "502",
        "stable": "200",
    }


def test_a_canary_that_hangs_costs_time_only(faulty, tmp_path):
    faulty.fault = "hang"
    text = rendered(1.0)
    assert text.count("proxy_read_timeout 10s;") == 1
    with front(
        text.replace("proxy_read_timeout 10s;", "proxy_read_timeout 1s;"), faulty.at, tmp_path
    ) as at:
        status, _, answer = ask(at.rest, PREDICT, ZEROS)
        assert (status, json.loads(answer)["label"]) == (200, "stable")
    (line,) = logged(at)
    assert line["upstream_status"] == "504 : 200"


def test_the_way_to_the_canary_is_none_of_its_time(faulty, tmp_path):
    """A large body takes a while from nginx to itself, which `stable` does not have."""

    class Slow(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = self.request.recv(1 << 16)
            time.sleep(1.0)
            with socket.socket(socket.AF_UNIX) as inner:
                inner.connect(str(tmp_path / "canary.sock"))
                inner.sendall(request)
                self.request.sendall(inner.recv(1 << 16))

    text = rendered(1.0)
    assert text.count("server unix:canary.sock ") == 1
    text = text.replace("server unix:canary.sock ", "server unix:slow.sock ")
    with socketserver.UnixStreamServer(str(tmp_path / "slow.sock"), Slow) as hop:
        threading.Thread(target=hop.handle_request, daemon=True).start()
        with front(text, faulty.at, tmp_path) as at:
            connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=PATIENCE)
            connection.request("POST", PREDICT, "{}")
            answer = connection.getresponse()
            assert json.loads(answer.read())["label"] == "canary"
            assert answer.headers["X-Seconds"] is None
            connection.close()
    (line,) = logged(at)
    assert float(line["upstream_seconds"]) < 1.0 <= line["seconds"]


def test_a_large_request_names_no_client_in_the_error_log(faulty, tmp_path):
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        assert ask(at.rest, PREDICT, b"x" * 3_000_000)[0] == 200
    assert "client" not in (tmp_path / "error.log").read_text()


def test_a_request_that_fills_the_disk_is_refused(faulty, tmp_path):
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        assert ask(at.rest, PREDICT, b"", **{"Content-Length": str(101 << 20)})[0] == 413
    label = read(at.traffic, Rules())[0].stable.to_json()
    assert (faulty.bodies, label["failed"]) == ([], 0)


def test_connections_that_the_server_closes_lose_no_request(faulty, tmp_path):
    """It may close one that nginx kept, just when the next request is sent there."""
    faulty.once = True
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        for _ in range(20):
            assert ask(at.rest, PREDICT, ZEROS)[0] == 200
    assert any(line["upstream_status"] == "502, 200" for line in logged(at))


def test_the_log_holds_no_body_and_any_path(faulty, tmp_path):
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        ask(at.rest, PREDICT, {"secret": 1})
        ask(at.rest, '/v1/"\\%09%ff', {"secret": 2})
    text = (at.traffic / "requests.jsonl").read_text()
    lines = logged(at)
    assert "secret" not in text
    assert [line["label"] for line in lines] == ["stable", ""]
    assert lines[1]["uri"] == '/v1/"\\%09%ff'
    for line in lines:
        assert line["seconds"] >= 0 and line["upstream_status"] == "200"


def test_a_log_that_is_rotated_is_read_whole(faulty, tmp_path):
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        for _ in range(3):
            ask(at.rest, PREDICT, ZEROS)
        wait_for(lambda: len(logged(at)) == 3)
        log = at.traffic / "requests.jsonl"
        log.rename(at.traffic / "requests.jsonl.1")
        os.kill(int((tmp_path / "nginx.pid").read_text()), signal.SIGUSR1)
        wait_for(log.exists)
        ask(at.rest, PREDICT, ZEROS)
    assert read(at.traffic, Rules())[0].stable.failures.pairs == 4


def test_a_client_that_gives_up_is_logged_as_not_answered(faulty, tmp_path):
    faulty.seconds = 1.0
    with front(rendered(0.0), faulty.at, tmp_path) as at:
        connection = http.client.HTTPConnection(at.rest.partition("//")[2], timeout=0.2)
        connection.request("POST", PREDICT, "{}")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        wait_for(lambda: logged(at))
        (line,) = logged(at)
    assert (line["status"], line["upstream_status"]) == (499, "-")
