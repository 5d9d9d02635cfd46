"""After a tick: tells those who want to know, and writes down what monitors read.

    <home>/schedule/told.json   which outcomes were told, and the last word of `stale`

It is written when they have been told: a tick that is killed in between has its message sent again
by the next one, so a message may come twice and is not lost. What could not be delivered, after all
attempts, is a warning of the tick and is not sent again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import model_name, served_folder
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.schedule.health import health
from bnpipe.pipeline.schedule.metrics_file import Gauges, write_metrics
from bnpipe.pipeline.schedule.notify import Message, message_of, notify
from bnpipe.pipeline.schedule.outcome import Outcome, outcomes
from bnpipe.pipeline.schedule.slot import iso
from bnpipe.pipeline.schedule.tick import Tick

NEWEST = 20
"""So many outcomes are looked through for one that was not told."""


@dataclass(frozen=True)
class Told:
    """What was told.

    Attributes:
        outcomes: those that were; as many of the last ones as there are outcomes.
        stale: the version and the day that `stale` was last told of; empty if never.
    """

    outcomes: tuple[str, ...] = ()
    stale: str = ""


def tell(config: Config, home: Path, tick: Tick, now: datetime) -> list[str]:
    """Tell what there is to tell after a tick.

    Whatever goes wrong here changes nothing about the slot.

    Returns:
        one sentence for each that could not be told.
    """
    problems: list[str] = []
    try:
        with try_lock(home / "schedule" / "telling.lock") as mine:
            if mine:  # else another tick is telling; what it misses is left to the next one
                _tell(config, home, tick, now, problems)
        if config.notify.prometheus_file is not None:
            write_metrics(Path(config.notify.prometheus_file), _gauges(config, home, now))
    except (BnpipeError, OSError) as error:
        problems.append(one_line(error))
    return problems


def _tell(config: Config, home: Path, tick: Tick, now: datetime, problems: list[str]) -> None:
    newest = outcomes(home, NEWEST, until=now)
    told = _read(home)
    if told is None:  # before there was such a file, others told
        told = Told(tuple(_key(outcome) for outcome in newest if outcome != tick.outcome))
    stale = _stale(config, home, now)
    keys = dict.fromkeys((*told.outcomes, *map(_key, newest)))
    kept = tuple(keys)[-config.schedule.keep_outcomes :]
    done = Told(kept, stale[0] if stale else told.stale)
    for message in _messages(config, newest, told, stale, now):
        problems += notify(config.notify, message)
    if done != _read(home):
        write_json(home / "schedule" / "told.json", dataclasses.asdict(done))


def _messages(
    config: Config, newest: list[Outcome], told: Told, stale: tuple[str, str] | None, now: datetime
) -> Iterator[Message]:
    """Every outcome that was not told; `stale` once a day for every version that is."""
    model = model_name(config)
    for outcome in newest:
        message = message_of(outcome, model, iso(now))
        if message is not None and _key(outcome) not in told.outcomes:
            yield message
    if stale is not None and stale[0] != told.stale:
        yield Message("stale", model, stale[1], iso(now))


def _stale(config: Config, home: Path, now: datetime) -> tuple[str, str] | None:
    """The version with the day, and the sentence; None unless the served model is stale."""
    found = health(config.schedule, home, served_folder(config, home), now, count=1)
    if found.stale is None or found.served is None:
        return None
    return f"v{found.served[0]} {now:%Y-%m-%d}", found.stale


def _key(outcome: Outcome) -> str:
    return f"{outcome.slot} {outcome.ended}"


def _read(home: Path) -> Told | None:
    """What was told; None when nobody has written that down."""
    try:
        value = json.loads((home / "schedule" / "told.json").read_text())
        return Told(tuple(map(str, value["outcomes"])), str(value["stale"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _gauges(config: Config, home: Path, now: datetime) -> Gauges:
    found = health(config.schedule, home, served_folder(config, home), now, count=1)
    version, age = found.served or (None, None)
    return Gauges(
        model=model_name(config),
        now=now,
        version=version,
        published=None if age is None else now - age,
        stale=found.stale is not None,
        next_slot=found.next_slots[0] if found.next_slots else None,
        outcomes=outcomes(home, until=now),
    )
