"""The triggers: reasons to retrain. Those that need numpy or TensorFlow ask in a child."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from bnpipe.components import example_gen
from bnpipe.data.json_text import json_text
from bnpipe.data.sources.spans import Span
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.duration import in_words, parse_duration
from bnpipe.pipeline.engine.errors import ExitCode, PipelineError, one_line
from bnpipe.pipeline.engine.runs import newest_summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.health import served_age
from bnpipe.pipeline.schedule.outcome import FiredTrigger
from bnpipe.pipeline.schedule.slot import iso
from bnpipe.pipeline.schedule.work import Looked

_INSPECTED = ("drift", "accuracy", "estimate")
_EXAMPLE_GEN, _PUSHER = "example_gen", "pusher"


@dataclass(frozen=True)
class Seen:
    """The answer of a trigger: `fired` if it is a reason to retrain, `remark` if it is none.

    `failed` is true when a part of it could not be looked at.
    """

    fired: str = ""
    remark: str = ""
    failed: bool = False


class Triggers:
    """The configured triggers of a home.

    Args:
        config: the configuration.
        store: the home's store.
        served: the served folder.
    """

    def __init__(self, config: Config, store: Store, served: Path) -> None:
        self._config = config
        self._store = store
        self._served = served

    def look(self, claim: Claim, now: datetime) -> Looked:
        """Ask every trigger; one that cannot tell does not keep the others from firing."""
        self._now = now
        looks: dict[str, Callable[[], Seen]] = {
            "clock": lambda: Seen(f"{claim.slot.iso} is a slot"),
            "new_span": self._new_span,
            "staleness": lambda: self._staleness(now),
        }
        reasons: list[FiredTrigger] = []
        otherwise: list[str] = []
        failed = False
        for name in self._config.schedule.triggers:
            try:
                seen = looks[name]() if name in looks else self._inspect(name)
                failed |= seen.failed
            except subprocess.TimeoutExpired:
                seen = Seen(remark=f"{name}: looking took longer than the time limit")
                failed = True
            except Exception as error:  # the boundary to what lies outside: data, served folder
                seen, failed = Seen(remark=f"{name}: {one_line(error)}"), True
            if seen.fired:
                reasons.append(FiredTrigger(name, seen.fired))
            elif seen.remark:
                otherwise.append(seen.remark)
        return Looked(tuple(reasons), tuple(otherwise), failed)

    def _inspect(self, name: str) -> Seen:
        answer = self._inspected[name]
        if "error" in answer:
            raise PipelineError(answer["error"])
        return Seen(**answer)

    @cached_property
    def _inspected(self) -> dict[str, dict[str, Any]]:
        """Answers of one child process to all triggers that need one."""
        asked = {
            "config": self._config.snapshot(),
            "home": str(self._store.home),
            "now": iso(self._now),
            "wanted": [n for n in self._config.schedule.triggers if n in _INSPECTED],
        }
        limit = self._config.schedule.time_limit
        done = subprocess.run(
            [sys.executable, "-P", "-m", "bnpipe.pipeline.schedule.inspection"],
            input=json_text(asked),
            text=True,
            capture_output=True,
            timeout=parse_duration(limit).total_seconds() if limit else None,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
            raise PipelineError(f"the inspection failed: {last[0]}")
        answers: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
        return answers

    def _new_span(self) -> Seen:
        """Spans that no model was judged on."""
        new, number = new_spans(self._config, self._store)
        if not new:
            return Seen(remark=f"no new span among {number}")
        if len(new) == 1:
            return Seen(f"span {new[0]} is new")
        return Seen(f"{len(new)} spans are new, {new[0]} to {new[-1]}")

    def _staleness(self, now: datetime) -> Seen:
        """The age of the served model."""
        assert self._config.schedule.stale_after is not None  # `Schedule` has seen to it
        limit = parse_duration(self._config.schedule.stale_after)
        served = served_age(self._served, now)
        if served is None:
            return Seen("nothing is served")
        version, age = served
        text = f"v{version} is {in_words(age)} old"
        stale = age > limit
        return Seen(f"{text}, stale after {in_words(limit)}") if stale else Seen(remark=text)


def new_spans(config: Config, store: Store) -> tuple[list[str], int]:
    """The spans that no run has judged a model on, or whose data has changed since.

    Returns:
        their names, and how many complete spans there are in all.

    Raises:
        DataError: a span that cannot be one.
    """
    before = judged_data(store)
    now = example_gen.probe(config.data, store.cache)
    spans = [name for name in now if name.startswith(Span.PREFIX)]
    new = [name.removeprefix(Span.PREFIX) for name in spans if before.get(name) != now[name]]
    return new, len(spans)


def judged_data(store: Store) -> Mapping[str, str]:
    """The data by `example_gen.probe` of when a model was last judged; empty if never.

    A run that failed on the way has judged nothing: its data is still new to the next one.
    """
    for summary in newest_summaries(store):
        steps = {s["component"]: s for s in summary["steps"]}
        whole = summary.get("exit_code") == ExitCode.OK and _PUSHER in steps
        stopped = summary.get("exit_code") == ExitCode.VERDICT
        if summary["status"] in ("succeeded", "stopped") and (whole or stopped):
            record = store.lookup(str(steps.get(_EXAMPLE_GEN, {}).get("key")))
            if record is not None:
                outside: Mapping[str, str] = record.parts["outside"]
                return outside
    return {}
