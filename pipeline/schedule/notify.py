"""Telling people: a webhook and a command get every event as one JSON object.

    {"format": 1, "event": "not_blessed", "model": "mnist", "time": "2026-11-22T03:01:12Z",
     "sentence": "not blessed: ...", "outcome": {...}}

`event` is success, not_blessed, failure or stale; `outcome` is the slot's outcome (see
`pipeline.schedule.outcome`), null for stale. A message that cannot be delivered is reported and
never changes what became of the slot. The webhook's URL and the signing key are secrets: they
come from files or the environment, and neither is ever printed or recorded.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bnpipe.data import users_environment
from bnpipe.data.json_text import json_text
from bnpipe.pipeline.configuration.sections import EventName, Notify
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule.outcome import Outcome, Result

FORMAT: Final = 1
SIGNATURE: Final = "X-Bnpipe-Signature"
_TRIES = 3
_EVENTS: Mapping[Result, EventName | None] = {
    Result.PUSHED: "success",
    Result.UNCHANGED: None,
    Result.BLOCKED: "not_blessed",
    Result.NOT_BLESSED: "not_blessed",
    Result.WITHDRAWN: "not_blessed",
    Result.FAILED: "failure",
    Result.MISSED: "failure",
}


@dataclass(frozen=True)
class Message:
    """One event, as it is told.

    Attributes:
        event: what happened.
        model: the model's name.
        sentence: one line for people.
        time: now, UTC ISO text.
        outcome: of the slot; None for `stale`.
    """

    event: EventName
    model: str
    sentence: str
    time: str
    outcome: Outcome | None = None

    def to_json(self) -> dict[str, Any]:
        """The documented payload."""
        return {"format": FORMAT, **asdict(self)}


def message_of(outcome: Outcome, model: str, time: str) -> Message | None:
    """The message about an outcome; None when nothing happened."""
    event = _EVENTS[outcome.result]
    return Message(event, model, outcome.sentence, time, outcome) if event else None


def notify(
    settings: Notify, message: Message, environ: Mapping[str, str] = os.environ
) -> list[str]:
    """Tell everybody who wants to know.

    Args:
        settings: who, and of what.
        message: what.
        environ: where `BNPIPE_WEBHOOK_URL` and `BNPIPE_WEBHOOK_SECRET` may be.

    Returns:
        One sentence, without secrets, for each that could not be told.
    """
    if message.event not in settings.on:
        return []
    body = json_text(message.to_json(), sort_keys=True).encode()
    problems = []
    try:
        url = _secret(settings.webhook_file, "BNPIPE_WEBHOOK_URL", environ)
        key = _secret(settings.secret_file, "BNPIPE_WEBHOOK_SECRET", environ)
        if url is not None:
            _post(url, body, key, settings.timeout_seconds)
    except _UndeliveredError as error:
        problems.append(f"the webhook was not told of {message.event}: {error}")
    try:
        if settings.command:
            _call(settings.command, body, message.event, settings.timeout_seconds)
    except _UndeliveredError as error:
        problems.append(f"{settings.command[0]} was not told of {message.event}: {error}")
    return problems


def check_receivers(settings: Notify, environ: Mapping[str, str] = os.environ) -> None:
    """Look, without telling anybody, whether the receivers can be told.

    Raises:
        ConfigError: a file cannot be read, the URL is none, or the command is no program.
    """
    try:
        url = _secret(settings.webhook_file, "BNPIPE_WEBHOOK_URL", environ)
        _secret(settings.secret_file, "BNPIPE_WEBHOOK_SECRET", environ)
        if url is not None:
            _host(url)
    except _UndeliveredError as error:
        raise ConfigError(f"notify: the webhook could not be told: {error}") from None
    if settings.command and shutil.which(os.path.expanduser(settings.command[0])) is None:
        raise ConfigError(f"notify.command: expected a program, received {settings.command[0]!r}")


def signature(body: bytes, key: str) -> str:
    """The value of `X-Bnpipe-Signature`: `sha256=` and the HMAC of the body in hex."""
    return "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


class _UndeliveredError(Exception):
    """A message did not arrive; the text says why and may be logged."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would lose its body, or carry it to somebody else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _secret(file: str | None, variable: str, environ: Mapping[str, str]) -> str | None:
    if file is None:
        return environ.get(variable) or None
    try:
        secret = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _UndeliveredError(f"cannot read {file}: {type(error).__name__}") from None
    if not secret:
        raise _UndeliveredError(f"{file} is empty")
    return secret


def _host(url: str) -> str:
    """The host of the webhook's URL, which is a secret and not to be shown."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host or "," in parts.netloc or ",http" in url or any(c.isspace() for c in url):
        raise _UndeliveredError("its URL must be one http://... or https://...")
    return host


def _post(url: str, body: bytes, key: str | None, timeout: float) -> None:
    """POST; faults of the network and of the server (5xx, 429) are tried again."""
    host = _host(url)
    headers = {"Content-Type": "application/json", "User-Agent": "bnpipe"}
    if key is not None:
        headers[SIGNATURE] = signature(body, key)
    opener = urllib.request.build_opener(_NoRedirects)
    for attempt in range(1, _TRIES + 1):
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")
        try:
            opener.open(request, timeout=timeout).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            problem, again = f"it answered {error.code}", error.code >= 500 or error.code == 429
        except (OSError, ValueError) as error:  # its text may hold the URL
            reason = getattr(error, "reason", error)
            problem, again = f"{type(reason).__name__} from {host}", True
        if not again or attempt == _TRIES:
            raise _UndeliveredError(problem)
        time.sleep(0.5 * 2**attempt)


def _call(command: tuple[str, ...], body: bytes, event: str, timeout: float) -> None:
    """Run the command in a process group of its own, so that nothing of it is left behind."""
    try:
        child = subprocess.Popen(
            (os.path.expanduser(command[0]), *command[1:]),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=users_environment() | {"BNPIPE_EVENT": event},
            start_new_session=True,
        )
    except OSError as error:
        raise _UndeliveredError(error.strerror or type(error).__name__) from None
    try:
        _, complaint = child.communicate(body, timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        raise _UndeliveredError(f"no end after {timeout:g} s") from None
    if child.returncode:
        last = complaint.decode(errors="replace").strip().splitlines()[-1:]
        raise _UndeliveredError(": ".join([f"it ended with {child.returncode}", *last])[:200])
