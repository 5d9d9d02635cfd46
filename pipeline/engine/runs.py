"""Run folders: the request, the plan and the events of every run.

runs/<id>/config.yaml    the resolved configuration
          plan.json      what was planned, with reasons
          events.jsonl   what happened, as it happened
          run.json       the summary; `status` is `running` until the run ends, and is read as
                         `killed` where nobody holds the run's lock
          report.json    the summary with config, metrics and rules: the report's source
          report.html    the report, drawn; unless it was not wanted
          logs/<step>.log
          engine.json, job_server.log   of a cluster for Beam: names of its jobs; what it printed
          workers.log    what worker processes printed between steps
          diff.patch     uncommitted changes of the checkout, if there were any
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

from bnpipe.data.plain_file import listed, read_plain
from bnpipe.pipeline.engine.errors import ConfigError, StoreError
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.lock import CLEARING, RunLocks, is_living, run_locks, try_lock
from bnpipe.pipeline.engine.store import Store

SHORTEST_SPAN = 0.1
"""Seconds that making ready must take to be shown."""


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def id(self) -> str:
        """The run's number, four digits or more."""
        return self.path.name

    def log(self, step: str) -> Path:
        """A step's log file."""
        return self.path / "logs" / f"{step}.log"

    def summary(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            StoreError: it is damaged.
        """
        return _read(self.path / "run.json")

    def report(self) -> dict[str, Any]:
        """`report.json`; the summary alone for a run that was killed.

        Raises:
            StoreError: it is damaged.
        """
        path = self.path / "report.json"
        return _read(path) if path.exists() else self.summary()

    def ended_report(self) -> dict[str, Any]:
        """The report of a run that has ended.

        Raises:
            ConfigError: it is still at work.
            StoreError: it is damaged.
        """
        report = self.report()
        if report["status"] == "running":
            raise ConfigError(
                f"run {self.id} is still at work", hint=f"follow it: bnpipe logs {self.id} STEP"
            )
        return report


@dataclass(frozen=True)
class Span:
    """A stretch of a run's time.

    Attributes:
        name: the step.
        ahead: true when a worker made ready for it, false when it ran.
        start: seconds since the run's start.
        seconds: how long it took.
    """

    name: str
    ahead: bool
    start: float
    seconds: float


def timeline(summary: Mapping[str, Any]) -> list[Span]:
    """What a run did when, in the order of its start; of runs before they told it, one by one."""
    spans, end = [], 0.0
    for step in summary["steps"]:
        if step["action"] in ("run", "failed"):
            start = step["started"] - summary["started"] if "started" in step else end
            spans.append(Span(step["name"], False, max(0.0, start), step["seconds"]))
            end += step["seconds"]
    for ready in summary.get("made_ready", ()):
        if ready["seconds"] >= SHORTEST_SPAN:
            start = ready["started"] - summary["started"]
            spans.append(Span(ready["step"], True, max(0.0, start), ready["seconds"]))
    return sorted(spans, key=lambda span: span.start)


@contextmanager
def joined(store: Store) -> Iterator[RunLocks]:
    """Come into a home beside the runs that are at work there; the first puts it in order.

    Raises:
        LockHeld: somebody must be alone there.
        ConfigError: it is a folder of somebody else's.
    """
    with try_lock(store.home / "lock", wait=0, who=CLEARING) as alone:
        if alone:
            put_in_order(store)
    with run_locks(store.home) as locks:
        store.prepare()
        yield locks


def put_in_order(store: Store) -> None:
    """Make a home ready and clear up after killed runs; the caller has it alone, so none lives.

    Raises:
        ConfigError: it is a folder of somebody else's.
    """
    store.prepare()
    _close_dead_runs(store)
    store.clean()


def new_run(store: Store) -> RunFolder:
    """Make the next run's folder, whoever else makes one."""
    taken = [int(p.name) for p in store.runs.iterdir() if _is_number(p.name)]
    for number in count(max(taken, default=0) + 1):
        folder = store.runs / f"{number:04d}"
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return RunFolder(folder)


def find_run(store: Store, name: str) -> RunFolder:
    """A run by number (`3`, `0003`) or by the word `latest`.

    Raises:
        ConfigError: there is no such run.
    """
    taken = _recorded(store)
    if not taken:
        raise ConfigError(f"there is no run in {store.home} yet", hint="start one: bnpipe run")
    if name == "latest":
        return RunFolder(taken[0])
    for path in taken:
        if _is_number(name) and int(path.name) == int(name):
            return RunFolder(path)
    raise ConfigError(f"there is no run {name!r}", hint="list them: bnpipe runs")


def summaries(store: Store) -> Iterator[dict[str, Any]]:
    """Summaries of all runs, newest first; of a damaged one its `id` and `status: unreadable`.

    Read from the files as far as they are asked for, because there may be years of them.
    """
    for folder in _recorded(store):
        try:
            yield _parsed(folder / "run.json")
        except FileNotFoundError:  # collected meanwhile
            continue
        except (OSError, ValueError):  # one damaged record must not hide the others
            yield {"id": folder.name, "status": "unreadable"}


def newest_summaries(store: Store, count: int = 200) -> Iterator[dict[str, Any]]:
    """Those of the newest `count` summaries that can be read, newest first."""
    return (s for s in islice(summaries(store), count) if s["status"] != "unreadable")


def _close_dead_runs(store: Store) -> None:
    """Mark as killed what says `running`, of the runs that left a lock."""
    for lock in listed(store.locks / "runs"):
        path = store.runs / lock.name / "run.json"
        try:
            summary = _written(path)
        except (OSError, ValueError):
            continue
        if summary["status"] == "running":
            write_json(path, {**summary, "status": "killed"})


def _recorded(store: Store) -> list[Path]:
    """Folders of runs, newest first; one killed before its first record left none to be found."""
    numbered = (p for p in listed(store.runs) if _is_number(p.name) and (p / "run.json").exists())
    return sorted(numbered, key=lambda p: int(p.name), reverse=True)


def _parsed(path: Path) -> dict[str, Any]:
    """A run's summary, from `run.json` or `report.json`; its lock says whether it lives.

    Raises:
        OSError, ValueError: it cannot be read, or is not one.
    """
    summary = _written(path)
    if summary["status"] == "running" and not is_living(path.parents[2], path.parent.name):
        summary = _written(path)  # it may have ended since
        if summary["status"] == "running":
            summary["status"] = "killed"
    return {**summary, "folder": str(path.parent)}  # the home may be at another path by now


def _written(path: Path) -> dict[str, Any]:
    """A run's summary as it was written.

    Raises:
        OSError, ValueError: it cannot be read, or is not one.
    """
    value = json.loads(read_plain(path))
    if not (isinstance(value, dict) and {"id", "status", "steps"} <= value.keys()):
        raise ValueError("it is not the summary of a run")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        return _parsed(path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}", hint=f"bnpipe does without it: rm {path}"
        ) from error


def _is_number(name: str) -> bool:
    """True when `int` takes it and its digits are 0 to 9."""
    return name.isascii() and name.isdecimal()
