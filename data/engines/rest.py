"""What the interfaces of all engines share: an answer over HTTP, and jobs that are ended."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bnpipe.data.engines.errors import EngineError

# A proxy of this machine knows nothing of the cluster.
_ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def get_json(who: str, address: str, path: str, method: str = "GET") -> Any:
    """An answer over HTTP.

    Args:
        who: answers at the address, for people.
        address: HOST:PORT.
        path: what is asked for.
        method: of HTTP.

    Raises:
        EngineError: it does not answer, or not so.
    """
    try:
        request = urllib.request.Request(f"http://{address}/{path}", method=method)
        with _ask(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        reason = getattr(reason, "strerror", None) or reason
        raise EngineError(f"{who} does not answer: {reason}", may_pass=True) from error


def end_all(
    living: Callable[[], Sequence[Mapping[str, Any]]], end: Callable[[str], None], seconds: float
) -> list[str]:
    """Ends jobs, each asked once, and waits; returns the names of those that go on.

    Args:
        living: finds them, by `jid` and `name`.
        end: asks one, by its `jid`, to end.
        seconds: how long to wait.
    """
    deadline = time.monotonic() + seconds
    asked: set[str] = set()
    while jobs := living():
        for job in jobs:
            if job["jid"] not in asked:
                asked.add(job["jid"])
                end(job["jid"])
        if time.monotonic() > deadline:
            return [str(job["name"]) for job in jobs]
        time.sleep(0.2)
    return []
