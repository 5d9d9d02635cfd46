"""Constant load on the stand-in, with a push, a rollback and a second push in the middle.

    python tests/benchmarks/bench_load.py [--rate 100] [--seconds 20] [--url http://HOST:PORT]

The load is open: every request counts from when it was due. What is published goes through the
product: staged, listed, waited for, labelled. Without `--url` the stand-in is measured, over REST
and over gRPC, in a process of its own; with it another server, where nothing is published. The
stand-in is not tensorflow_model_server: its numbers say how a change of versions shows, not how
fast a server is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))


from bnpipe.serving import load
from bnpipe.serving.client import Client, Options, Prediction, connect
from bnpipe.serving.load import LoadResult
from bnpipe.serving.publish import publish
from bnpipe.serving.rollout import Rollout
from tests.benchmarks.bench_serving import INFO, export, line, requests, stand_in

# Shares of the time at which something happens.
FIRST_PUSH, ROLLBACK, SECOND_PUSH = 0.25, 0.5, 0.75
PATIENCE = 60.0
Events = list[tuple[str, float, float]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each address")
    parser.add_argument("--url", help="load this server only, without a change of versions")
    parser.add_argument("--model", default="mnist")
    flags = parser.parse_args()
    if flags.url:
        with connect(flags.url, flags.model, Options(attempts=1)) as client:
            show(flags.url, under_load(client, flags.rate, flags.seconds), [])
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
                    report = under_load(client, flags.rate, flags.seconds, changes.start)
                show(address, report, changes.done())


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
    client: Client, rate: float, seconds: float, begin: Callable[[], None] = lambda: None
) -> LoadResult:
    """Requests at a constant rate, after some that are not counted."""
    inputs = requests(1)["serve_png"]

    def ask() -> Prediction:
        return client.predict(inputs, signature="serve_png", label="stable")

    for _ in range(50):
        ask()
    begin()
    return load.run(ask, rate=rate, seconds=seconds)


def show(address: str, report: LoadResult, events: Events) -> None:
    """A line for all requests, and one for those of every change."""
    line(f"{address}  {report.rate:g} requests/s")
    names = ("p50", "p90", "p99", "p99.9", "max")
    heads = "".join(f"{name + ' ms':>10}" for name in names)
    line(f"{'':<22}{'requests':>9}{'failed':>8}{'late':>6}{heads}")
    quiet = [
        sample
        for sample in report.samples
        if not any(start <= sample.due < end for _, start, end in events)
    ]
    rows = [("all", report), ("between changes", LoadResult(report.rate, quiet))]
    for name, start, end in events:
        rows.append((f"{name} of {end - start:.2f} s", report.between(start, end)))
    for name, part in rows:
        told = part.summary()
        times = "".join(f"{told['milliseconds'][n]:>10.1f}" for n in names)
        line(f"{name:<22}{told['requests']:>9}{told['failed']:>8}{told['sent_late']:>6}{times}")
    for error, count in report.errors.items():
        line(f"  {count} failed: {error}")
    if report.versions:
        line(f"  answered by {', '.join(f'v{v}: {n}' for v, n in sorted(report.versions.items()))}")


if __name__ == "__main__":
    main()
