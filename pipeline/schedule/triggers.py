"""The triggers: what makes a slot retrain. Those that need numpy or TensorFlow ask in a child."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from bnpipe.components import example_gen
from bnpipe.data.sources.spans import Span
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.duration import in_words, parse_duration
from bnpipe.pipeline.engine.errors import ExitCode, PipelineError, one_line
from bnpipe.pipeline.engine.runs import newest_summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.health import served_age
from bnpipe.pipeline.schedule.outcome import FiredTrigger
from bnpipe.pipeline.schedule.work import Looked

_INSPECTED = ("drift", "accuracy")
_EXAMPLE_GEN, _PUSHER = "example_gen", "pusher"


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
        looks: dict[str, Callable[[], tuple[str, str]]] = {
            "clock": lambda: (f"{claim.slot.iso} is a slot", ""),
            "new_span": self._new_span,
            "staleness": lambda: self._staleness(now),
        }
        reasons: list[FiredTrigger] = []
        otherwise: list[str] = []
        failed = False
        inspected = self._inspected()
        for name in self._config.schedule.triggers:
            try:
                fired, told = looks[name]() if name in looks else inspected(name)
            except subprocess.TimeoutExpired:
                told = f"{name}: looking took longer than the time limit"
                fired, failed = "", True
            except Exception as error:  # the boundary to what lies outside: data, served folder
                fired, told, failed = "", f"{name}: {one_line(error)}", True
            if fired:
                reasons.append(FiredTrigger(name, fired))
            elif told:
                otherwise.append(told)
        return Looked(tuple(reasons), tuple(otherwise), failed)

    def _inspected(self) -> Callable[[str], tuple[str, str]]:
        """Asks one child process about all triggers that need one, when the first is asked for."""

        @cache
        def answers() -> dict[str, dict[str, Any]]:
            wanted = [n for n in self._config.schedule.triggers if n in _INSPECTED]
            asked = {
                "config": self._config.snapshot(),
                "home": str(self._store.home),
                "wanted": wanted,
            }
            words = [sys.executable, "-P", "-m", "bnpipe.pipeline.schedule.inspection"]
            limit = self._config.schedule.time_limit
            done = subprocess.run(
                words,
                input=json.dumps(asked),
                text=True,
                capture_output=True,
                timeout=parse_duration(limit).total_seconds() if limit else None,
            )
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
                raise PipelineError(f"the inspection failed: {last[0]}")
            found: dict[str, dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
            return found

        def ask(name: str) -> tuple[str, str]:
            answer = answers()[name]
            if answer["failed"]:
                raise PipelineError(answer["told"].removeprefix(f"{name}: "))
            return answer["fired"], answer["told"]

        return ask

    def _new_span(self) -> tuple[str, str]:
        """Spans that no model was judged on."""
        new = new_spans(self._config, self._store)
        if not new:
            return "", "no new span"
        if len(new) == 1:
            return f"span {new[0]} is new", ""
        return f"{len(new)} spans are new, {new[0]} to {new[-1]}", ""

    def _staleness(self, now: datetime) -> tuple[str, str]:
        """The age of the served model."""
        assert self._config.schedule.stale_after is not None  # `Schedule` has seen to it
        limit = parse_duration(self._config.schedule.stale_after)
        served = served_age(self._served, now)
        if served is None:
            return "nothing is served", ""
        version, age = served
        told = f"v{version} is {in_words(age)} old"
        return (f"{told}, stale after {in_words(limit)}", "") if age > limit else ("", told)


def new_spans(config: Config, store: Store) -> list[str]:
    """Names of the spans that no run has judged a model on, or whose data has changed since.

    Raises:
        DataError: a span that cannot be one.
    """
    before = judged_data(store)
    found = example_gen.probe(config.data, store.cache)
    return [
        name.removeprefix(Span.PREFIX)
        for name, content in found.items()
        if name.startswith(Span.PREFIX) and before.get(name) != content
    ]


def judged_data(store: Store) -> Mapping[str, str]:
    """What the data was, by `example_gen.probe`, when a model was last judged; empty if never.

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
