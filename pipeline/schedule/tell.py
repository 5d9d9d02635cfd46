"""After a tick: tells those who want to know, and writes down what monitors read.

    <home>/schedule/told.json   which outcomes were told, and the last word of `stale`

It is written when they have been told: a tick that is killed in between has its message sent again
by the next one, so a message may come twice and is not lost. What could not be delivered, after all
attempts, is a warning of the tick and is not sent again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bnpipe.data.errors import BnpipeError
from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import model_name, served_folder
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.schedule.health import Health, health
from bnpipe.pipeline.schedule.metrics_file import write_metrics
from bnpipe.pipeline.schedule.notify import Message, message_of, notify
from bnpipe.pipeline.schedule.outcome import Outcome, outcomes
from bnpipe.pipeline.schedule.slot import iso
from bnpipe.pipeline.schedule.tick import Tick

NEWEST = 20
"""So many outcomes are looked through for one that was not told."""


@dataclass(frozen=True)
class Delivered:
    """The messages that went out.

    Attributes:
        outcomes: those that were told; as many of the last ones as there are outcomes.
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
        state = health(config.schedule, home, served_folder(config, home), now, count=1)
        with try_lock(home / "schedule" / "telling.lock") as mine:
            if mine:  # else another tick is telling; what it misses is left to the next one
                _tell(config, home, tick, state, now, problems)
        if config.notify.prometheus_file is not None:
            path = Path(config.notify.prometheus_file)
            write_metrics(path, model_name(config), state, outcomes(home, until=now), now)
    except (BnpipeError, OSError) as error:
        problems.append(one_line(error))
    return problems


def _tell(
    config: Config, home: Path, tick: Tick, state: Health, now: datetime, problems: list[str]
) -> None:
    """Every outcome that was not told; `stale` once a day for every version that is."""
    newest = outcomes(home, NEWEST, until=now)
    written = _read(home)
    # Before there was such a file, others told.
    before = written or Delivered(tuple(_key(o) for o in newest if o != tick.outcome))
    keys = dict.fromkeys((*before.outcomes, *map(_key, newest)))
    stale = before.stale
    if state.stale is not None and state.served is not None:
        stale = f"v{state.served[0]} {now:%Y-%m-%d}"
    done = Delivered(tuple(keys)[-config.schedule.keep_outcomes :], stale)
    model = model_name(config)
    messages = [message_of(o, model, iso(now)) for o in newest if _key(o) not in before.outcomes]
    if state.stale is not None and stale != before.stale:
        messages.append(Message("stale", model, state.stale, iso(now)))
    for message in filter(None, messages):
        problems += notify(config.notify, message)
    if done != written:
        write_json(home / "schedule" / "told.json", dataclasses.asdict(done))


def _key(outcome: Outcome) -> str:
    return f"{outcome.slot} {outcome.ended}"


def _read(home: Path) -> Delivered | None:
    """The record of what was told; None when nobody has written that down."""
    try:
        value = json.loads(read_plain(home / "schedule" / "told.json"))
        return Delivered(tuple(map(str, value["outcomes"])), str(value["stale"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
