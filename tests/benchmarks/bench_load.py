"""Constant load on a server, with a push, a rollback and a second push in the middle.

    python tests/benchmarks/bench_load.py [--rate 100] [--seconds 20] [--batch 1]
        [--url http://HOST:PORT [--label stable]]

Without `--url` the stand-in is measured, over REST and over gRPC, in a process of its own; what is
published goes through the product: staged, listed, waited for, labelled. With it another server,
where nothing is published. The stand-in is not tensorflow_model_server: its numbers say how a
change of versions shows, not how fast a server is.

The load is open: every request has a time at which it is due, and its latency counts from then, not
from when a thread was free to send it. A server that stalls for a second is charged for every
request of that second; a closed loop would have sent one and called the rest idle (coordinated
omission, see Gil Tene, "How NOT to Measure Latency", 2013). A failed request counts in the
latencies too. `late` are requests that were sent late, because all connections were waiting or
this machine was busy: a client that cannot keep up is no slow server.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from bnpipe.serving.client.base import Client, Options, Prediction, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.folder.publish import publish
from bnpipe.serving.folder.rollout import Rollout
from tests.benchmarks.bench_serving import INFO, export, line, requests, stand_in

# Shares of the time at which something happens.
FIRST_PUSH, ROLLBACK, SECOND_PUSH = 0.25, 0.5, 0.75
PATIENCE = 60.0
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
LATE_SECONDS = 0.01
Events = list[tuple[str, float, float]]


@dataclass(frozen=True)
class Sample:
    """One request: when it was due, sent and done, in seconds from the start.

    `error` says why it failed; `version` which version answered, if the server said so.
    """

    due: float
    sent: float
    done: float
    error: str = ""
    version: int | None = None


@dataclass(frozen=True)
class Report:
    """What became of a load: every request, in the order in which they were due."""

    samples: Sequence[Sample]

    @property
    def errors(self) -> Counter[str]:
        """Failed requests by reason."""
        return Counter(s.error for s in self.samples if s.error)

    @property
    def versions(self) -> Counter[int]:
        """Answered requests by version, as far as the server said so."""
        return Counter(s.version for s in self.samples if s.version is not None)

    def between(self, start: float, end: float) -> Report:
        """The requests that were due in a part of the time."""
        return Report([s for s in self.samples if start <= s.due < end])

    def row(self, name: str) -> str:
        """A line: counts, and latencies in milliseconds."""
        waited = [(s.done - s.due) * 1e3 for s in self.samples] or [float("nan")]
        times = "".join(f"{t:>10.1f}" for t in np.percentile(waited, list(PERCENTILES.values())))
        late = sum(s.sent - s.due > LATE_SECONDS for s in self.samples)
        failed = self.errors.total()
        return f"{name:<22}{len(self.samples):>9}{failed:>8}{late:>6}{times}"


def open_load(
    ask: Callable[[], Prediction],
    rate: float,
    seconds: float,
    *,
    connections: int = 32,
    stopped: Callable[[], bool] = lambda: False,
) -> Report:
    """Ask at a constant rate, with at most `connections` requests under way.

    `ask` sends one request and is called by several threads; a request that it sends again by
    itself hides a failure.
    """
    total = max(1, round(rate * seconds))
    turns = itertools.count()  # `next` is atomic in CPython
    samples: list[Sample] = []
    over = threading.Event()
    start = time.perf_counter() + 0.05

    def work() -> None:
        while not over.is_set() and (turn := next(turns)) < total:
            due = turn / rate
            while (early := start + due - time.perf_counter()) > 0:
                if stopped() or over.is_set():
                    return
                time.sleep(min(early, 0.1))
            samples.append(timed(ask, start, due))

    workers = min(connections, total)
    with ThreadPoolExecutor(workers, thread_name_prefix="load") as pool:
        running = [pool.submit(work) for _ in range(workers)]
        try:
            wait(running, return_when=FIRST_EXCEPTION)
        finally:  # also after Ctrl-C
            over.set()
        for future in running:
            future.result()
    return Report(sorted(samples, key=lambda s: s.due))


def timed(ask: Callable[[], Prediction], start: float, due: float) -> Sample:
    """One request, sent now."""
    sent = time.perf_counter() - start
    error, version = "", None
    try:
        version = ask().version
    except ServerError as failure:
        error = f"{failure.status} {failure.headline.splitlines()[0][:200]}"
    return Sample(due, sent, time.perf_counter() - start, error, version)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each address")
    parser.add_argument("--batch", type=int, default=1, help="images in a request")
    parser.add_argument("--url", help="load this server only, without a change of versions")
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--label", default="stable", help="with --url; '': the highest version")
    flags = parser.parse_args()
    if flags.url:
        with connect(flags.url, flags.model, Options(attempts=1)) as client:
            show(flags.url, under_load(client, flags), [], flags.rate)
        return
    with tempfile.TemporaryDirectory() as scratch:
        exports = [export(Path(scratch, f"export-{seed}"), seed) for seed in range(5)]
        base = Path(scratch, "mnist")
        push(base, exports[0])
        with stand_in(base / "models.config") as addresses:
            for number, address in enumerate(addresses):
                rollout = Rollout(base, (addresses[0],), PATIENCE)
                changes = Changes(rollout, exports[1 + 2 * number :], flags.seconds)
                with connect(address, "mnist", Options(attempts=1)) as client:
                    report = under_load(client, flags, changes.start)
                show(address, report, changes.done(), flags.rate)


def push(base: Path, model: Path, *, rollout: Rollout | None = None) -> None:
    """Publish a model, and make it live on the servers."""
    published = publish(
        base,
        model,
        model_name="mnist",
        provenance={"dataset": {"name": INFO.name}},
        compared_with=None,
        hold=rollout is not None,
    )
    if rollout is not None:
        rollout.finish(published)


class Changes:
    """A push, a rollback and a push, while somebody else sends requests."""

    def __init__(self, rollout: Rollout, models: list[Path], seconds: float) -> None:
        self._rollout, self._models, self._seconds = rollout, models, seconds
        self._events: Events = []
        self._thread = threading.Thread(target=self._run)
        self._begun = 0.0

    def start(self) -> None:
        """The load begins now."""
        self._begun = time.perf_counter()
        self._thread.start()

    def done(self) -> Events:
        """What happened, from when to when, in seconds."""
        self._thread.join()
        return self._events

    def _run(self) -> None:
        base = self._rollout.base
        self._at(FIRST_PUSH, "push", lambda: push(base, self._models[0], rollout=self._rollout))
        self._at(ROLLBACK, "rollback", lambda: self._rollout.rollback(reason="a drill"))
        self._at(SECOND_PUSH, "push", lambda: push(base, self._models[1], rollout=self._rollout))

    def _at(self, share: float, name: str, change: Callable[[], object]) -> None:
        time.sleep(max(0.0, share * self._seconds - (time.perf_counter() - self._begun)))
        start = time.perf_counter() - self._begun
        change()
        self._events.append((name, start, time.perf_counter() - self._begun))


def under_load(
    client: Client, flags: argparse.Namespace, begin: Callable[[], None] = lambda: None
) -> Report:
    """Requests at a constant rate, after some that are not counted."""
    inputs = requests(flags.batch)["serve_png"]

    def ask() -> Prediction:
        return client.predict(inputs, signature="serve_png", label=flags.label or None)

    for _ in range(50):
        ask()
    begin()
    return open_load(ask, flags.rate, flags.seconds)


def show(address: str, report: Report, events: Events, rate: float) -> None:
    """A line for all requests, and one for those of every change."""
    line(f"{address}  {rate:g} requests/s  (load average {os.getloadavg()[0]:.1f})")
    heads = "".join(f"{name + ' ms':>10}" for name in PERCENTILES)
    line(f"{'':<22}{'requests':>9}{'failed':>8}{'late':>6}{heads}")
    line(report.row("all"))
    for name, start, end in events:
        line(report.between(start, end).row(f"{name} of {end - start:.2f} s"))
    for error, count in report.errors.items():
        line(f"  {count} failed: {error}")
    if report.versions:
        line(f"  answered by {', '.join(f'v{v}: {n}' for v, n in sorted(report.versions.items()))}")


if __name__ == "__main__":
    main()
