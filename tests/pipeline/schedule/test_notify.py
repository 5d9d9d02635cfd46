"""Who is told what, that secrets stay secret, and that nobody's failure is the slot's."""

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.configuration.sections import Notify
from bnpipe.pipeline.schedule import notify as module
from bnpipe.pipeline.schedule.notify import SIGNATURE, Message, message_of, notify, signature
from bnpipe.pipeline.schedule.outcome import FiredTrigger, Outcome, Result
from tests.waiting import PATIENCE

OUTCOME = Outcome(
    slot="2026-11-22T03:00:00Z",
    attempt=1,
    result=Result.NOT_BLESSED,
    reasons=(FiredTrigger("clock", "it is time"),),
    sentence="not blessed: worse than v3",
    run="0012",
    version=None,
    started="2026-11-22T03:00:04Z",
    ended="2026-11-22T03:01:12Z",
    exit_code=3,
)
MESSAGE = Message("not_blessed", "mnist", OUTCOME.sentence, "2026-11-22T03:01:13Z", OUTCOME)
ALL = ("success", "not_blessed", "failure", "stale")


class Receiver(HTTPServer):
    """Answers with the codes it is given, the last one for good, and keeps what it got."""

    def __init__(self, *codes: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes = list(codes)
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/s3cret?token=t0ken"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        self.send_response(code)
        if code == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def receive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    made: list[Receiver] = []

    def start(*codes: int) -> Receiver:
        made.append(Receiver(*codes))
        threading.Thread(target=made[-1].serve_forever, args=(0.05,), daemon=True).start()
        return made[-1]

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("result", "event"),
    [
        (Result.PUSHED, "success"),
        (Result.UNCHANGED, None),
        (Result.BLOCKED, "not_blessed"),
        (Result.WITHDRAWN, "not_blessed"),
        (Result.FAILED, "failure"),
        (Result.MISSED, "failure"),
    ],
)
def test_every_result_is_an_event_or_silence(result: Result, event: str | None) -> None:
    message = message_of(replace(OUTCOME, result=result), "mnist", MESSAGE.time)
    assert (message.event if message else None) == event


def test_the_webhook_gets_the_signed_payload(receive: Any) -> None:
    server = receive(204)
    environ = {"BNPIPE_WEBHOOK_URL": server.url, "BNPIPE_WEBHOOK_SECRET": "k"}
    assert notify(Notify(), MESSAGE, environ) == []
    ((headers, body),) = server.got
    told = json.loads(body)
    assert (told["format"], told["event"], told["model"]) == (1, "not_blessed", "mnist")
    assert told["outcome"]["run"] == "0012"
    assert told["outcome"]["reasons"] == [{"trigger": "clock", "sentence": "it is time"}]
    assert headers[SIGNATURE] == signature(body, "k")
    assert headers["Content-Type"] == "application/json"


def test_secrets_come_from_files_too(receive: Any, tmp_path: Path) -> None:
    server = receive(200)
    (tmp_path / "url").write_text(server.url + "\n")
    (tmp_path / "key").write_text("k\n")
    settings = Notify(webhook_file=str(tmp_path / "url"), secret_file=str(tmp_path / "key"))
    assert notify(settings, MESSAGE, {}) == []
    ((headers, body),) = server.got
    assert headers[SIGNATURE] == signature(body, "k")


def test_what_nobody_asked_for_is_not_told(receive: Any) -> None:
    server = receive(200)
    environ = {"BNPIPE_WEBHOOK_URL": server.url}
    assert notify(Notify(on=("failure",)), MESSAGE, environ) == []
    assert server.got == []


@pytest.mark.parametrize(
    ("codes", "requests", "problem"),
    [
        ((503, 429, 200), 3, None),
        ((500,), 3, "it answered 500"),
        ((404,), 1, "it answered 404"),
        ((302,), 1, "it answered 302"),
    ],
)
def test_faults_are_tried_again_and_refusals_are_not(
    receive: Any, codes: tuple[int, ...], requests: int, problem: str | None
) -> None:
    server = receive(*codes)
    problems = notify(Notify(), MESSAGE, {"BNPIPE_WEBHOOK_URL": server.url})
    assert len(server.got) == requests
    assert problems == ([f"the webhook was not told of not_blessed: {problem}"] if problem else [])


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/s3cret",
        "ftp://host/s3cret",
        "file:///s3cret",
        "s3cret",
        "http://[s3cret",
        "http://host.invalid:99999/s3cret",
        "http://a b/s3cret",
        "http://a\r\nX-Evil: s3cret",
    ],
)
def test_a_url_that_does_not_work_is_never_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    (problem,) = notify(Notify(timeout_seconds=2), MESSAGE, {"BNPIPE_WEBHOOK_URL": url})
    assert problem.startswith("the webhook was not told of not_blessed: ")
    assert "s3cret" not in problem


@pytest.mark.parametrize("content", [None, "", b"\xff"])
def test_a_secret_that_cannot_be_read(tmp_path: Path, content: str | bytes | None) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (problem,) = notify(Notify(webhook_file=str(path)), MESSAGE, {})
    assert str(path) in problem


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_a_command_reads_the_payload(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = f"import os, sys; open({str(kept)!r}, 'w').write(os.environ['BNPIPE_EVENT'] + sys.stdin.read())"  # noqa: E501
    assert notify(Notify(command=python(code)), MESSAGE, {}) == []
    assert kept.read_text().startswith("not_blessed{")
    assert json.loads(kept.read_text().removeprefix("not_blessed")) == json.loads(
        json.dumps(MESSAGE.to_json())
    )


def test_a_command_is_its_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OWN", "kept")
    (tmp_path / "tell").write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    (tmp_path / "tell").chmod(0o755)
    assert notify(Notify(command=("~/tell",)), MESSAGE, {}) == []
    given = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert given["OWN"] == "kept"
    assert not {"PYTHONSAFEPATH", "KERAS_BACKEND", "KERAS_HOME"} & given.keys()


@pytest.mark.parametrize(
    ("command", "seconds", "problem"),
    [
        (("/nonexistent/tell",), PATIENCE, "No such file"),
        (python("import sys; sys.exit('no mail today')"), PATIENCE, "ended with 1: no mail today"),
        (python("import time; time.sleep(999)"), 1, "no end after 1 s"),
    ],
)
def test_a_command_that_fails_is_reported(
    command: tuple[str, ...], seconds: float, problem: str
) -> None:
    (told,) = notify(Notify(command=command, timeout_seconds=seconds), MESSAGE, {})
    assert problem in told


def test_one_failure_does_not_keep_the_other_from_being_told(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = f"open({str(kept)!r}, 'w').write('told')"
    settings = Notify(command=python(code), webhook_file=str(tmp_path / "missing"))
    assert len(notify(settings, MESSAGE, {})) == 1
    assert kept.read_text() == "told"


def test_stale_has_no_outcome() -> None:
    message = Message("stale", "mnist", "v3 is 9 days old", MESSAGE.time)
    assert message.to_json()["outcome"] is None
