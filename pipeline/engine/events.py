"""The events of a run, as values; the runner emits them and knows no sink by name."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.engine.plan import StepPlan


@dataclass(frozen=True)
class Event:
    """Something that happened; `at` is seconds since the epoch."""

    at: float = dataclasses.field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True)
class RunStarted(Event):
    """A run took the lock and has an id."""

    run: str
    dataset: str
    steps: tuple[StepPlan, ...]


@dataclass(frozen=True)
class StepStarted(Event):
    """A step begins, or begins again (`attempt` > 1)."""

    plan: StepPlan
    attempt: int = 1


@dataclass(frozen=True)
class Progress(Event):
    """A step tells how far it is; `total` 0 means unknown."""

    step: str
    done: int
    total: int
    note: str


@dataclass(frozen=True)
class MadeReady(Event):
    """An idle worker has made ready for a step: imports, mostly; `started` as `Event.at`."""

    worker: int
    step: str
    started: float
    seconds: float

    def snapshot(self) -> dict[str, Any]:
        """For `run.json`."""
        times = {"started": round(self.started, 3), "seconds": round(self.seconds, 3)}
        return {"worker": self.worker, "step": self.step, **times}


@dataclass(frozen=True)
class StepRetried(Event):
    """A fault (not a verdict) is tried again after `wait` seconds."""

    step: str
    error: str
    wait: float


@dataclass(frozen=True)
class StepFinished(Event):
    """A step was answered from the cache, run, kept or stopped."""

    plan: StepPlan
    seconds: float
    facts: Mapping[str, Any]
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class StepErrored(Event):
    """A step raised for good."""

    step: str
    error: str
    log: str


@dataclass(frozen=True)
class GateDecided(Event):
    """A gate's verdict."""

    step: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class NotDrawn(Event):
    """The run's picture could not be drawn."""

    error: str


@dataclass(frozen=True)
class RunFinished(Event):
    """The run ended; `summary` is its `run.json`."""

    summary: Mapping[str, Any]


Sink = Callable[[Event], None]


class JsonLines:
    """Writes every event but progress to `events.jsonl`.

    A full disk must not turn a finished step into a failed one: when a line cannot be written the
    sink stops writing, and the runner's own records decide.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._working = True

    def __call__(self, event: Event) -> None:
        """Append one line."""
        if isinstance(event, Progress) or not self._working:
            return
        line = {"event": type(event).__name__, **vars(event)}
        try:
            with self._path.open("a") as stream:
                stream.write(json_text(line, default=_plain) + "\n")
        except OSError:
            self._working = False


def _plain(value: Any) -> Any:
    return value.snapshot() if isinstance(value, StepPlan) else str(value)
