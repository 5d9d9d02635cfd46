"""Open-loop load: requests at a constant rate, whatever the server does.

Every request has a time at which it is due, and its latency counts from then, not from when a
thread was free to send it. A server that stalls for a second is thus charged for every request of
that second; a closed loop would have sent one and called the rest of the second idle (coordinated
omission, see Gil Tene, "How NOT to Measure Latency", 2013). A failed request counts in the
latencies too: somebody waited for that failure.

Any number of requests may be under way up to `connections`. If all of them are, or this machine is
busy, the next one is sent late, still counted from when it was due; `sent_late` tells how many
were, so that a client that cannot keep up is not mistaken for a slow server.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client import Prediction, ServerError

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
_LATE_SECONDS = 0.01


@dataclass(frozen=True)
class Sample:
    """One request.

    Attributes:
        due: when it was to be sent, in seconds from the start.
        sent: when it was sent.
        done: when it was answered, or failed.
        error: why it failed; empty if it was answered.
        version: which version answered, if the server said so.
    """

    due: float
    sent: float
    done: float
    error: str = ""
    version: int | None = None


@dataclass(frozen=True)
class LoadResult:
    """What became of a load.

    Attributes:
        rate: requests a second that were due.
        samples: every request, in the order in which they were due.
    """

    rate: float
    samples: Sequence[Sample] = field(repr=False)

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by reason."""
        return Counter(s.error for s in self.samples if s.error)

    @property
    def versions(self) -> Counter[int]:
        """Answered requests by version, as far as the server said so."""
        return Counter(s.version for s in self.samples if s.version is not None)

    @property
    def sent_late(self) -> int:
        """Requests that were sent more than 10 ms after they were due."""
        return sum(s.sent - s.due > _LATE_SECONDS for s in self.samples)

    @property
    def milliseconds(self) -> npt.NDArray[np.float64]:
        """Latencies from the time when requests were due."""
        return np.array([(s.done - s.due) * 1e3 for s in self.samples], np.float64)

    def between(self, start: float, end: float) -> LoadResult:
        """The requests that were due in a part of the time."""
        return LoadResult(self.rate, [s for s in self.samples if start <= s.due < end])

    def summary(self) -> dict[str, Any]:
        """Counts, and latencies in milliseconds, as plain values."""
        waited = self.milliseconds
        found = np.percentile(waited, PERCENTILES) if waited.size else [float("nan")] * 5
        names = [f"p{p:g}" for p in PERCENTILES[:-1]] + ["max"]
        return {
            "rate": self.rate,
            "requests": len(self.samples),
            "failed": sum(self.errors.values()),
            "sent_late": self.sent_late,
            "milliseconds": {
                name: round(float(v), 3) for name, v in zip(names, found, strict=True)
            },
            "errors": dict(self.errors.most_common()),
            "versions": dict(sorted(self.versions.items())),
        }


def run(
    ask: Callable[[], Prediction],
    *,
    rate: float,
    seconds: float,
    connections: int = 32,
    stopped: Callable[[], bool] = lambda: False,
) -> LoadResult:
    """Ask at a constant rate.

    Args:
        ask: sends one request and waits for its answer; called by several threads. A request that
            it sends again by itself hides a failure.
        rate: requests a second.
        seconds: for how long.
        connections: how many requests may be under way at once.
        stopped: says that the rest need not be sent.
    """
    total = max(1, round(rate * seconds))
    turns = itertools.count()  # `next` is atomic in CPython
    samples: list[Sample] = []
    start = time.perf_counter() + 0.05

    over = threading.Event()

    def work() -> None:
        while not over.is_set() and (turn := next(turns)) < total:
            due = turn / rate
            while (early := start + due - time.perf_counter()) > 0:
                if stopped() or over.is_set():
                    return
                time.sleep(min(early, 0.1))
            samples.append(_timed(ask, start, due))

    workers = min(connections, total)
    with ThreadPoolExecutor(workers, thread_name_prefix="load") as pool:
        found = [pool.submit(work) for _ in range(workers)]
        try:
            wait(found, return_when=FIRST_EXCEPTION)
        finally:  # also after Ctrl-C
            over.set()
        for future in found:
            future.result()
    return LoadResult(rate, sorted(samples, key=lambda s: s.due))


def _timed(ask: Callable[[], Prediction], start: float, due: float) -> Sample:
    sent = time.perf_counter() - start
    error, version = "", None
    try:
        version = ask().version
    except ServerError as failure:
        error = failure.headline.splitlines()[0][:200]
        if failure.status and f"{failure.status}" not in error:
            error = f"{failure.status} {error}"
    return Sample(due, sent, time.perf_counter() - start, error, version)
