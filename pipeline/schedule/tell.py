"""After a tick: tells those who want to know, and writes down what monitors read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import BnpipeError, one_line
from pipeline.publishing import model_name, served_folder
from pipeline.schedule.health import health
from pipeline.schedule.metrics_file import Standing, write_metrics
from pipeline.schedule.notify import Message, message_of, notify
from pipeline.schedule.outcome import outcomes
from pipeline.schedule.slot import iso
from pipeline.schedule.tick import Tick


def tell(config: Config, home: Path, tick: Tick, now: datetime) -> list[str]:
    """Tell what a tick did.

    Whatever goes wrong here changes nothing about the slot.

    Returns:
        one sentence for each that could not be told.
    """
    problems = []
    try:
        if tick.outcome is not None:
            for message in _messages(config, home, tick, now):
                problems += notify(config.notify, message)
        if config.notify.prometheus_file is not None:
            write_metrics(Path(config.notify.prometheus_file), _standing(config, home, now))
    except (BnpipeError, OSError) as error:
        problems.append(one_line(error))
    return problems


def _messages(config: Config, home: Path, tick: Tick, now: datetime) -> Iterator[Message]:
    """What there is to tell of a settled slot; `stale` once per slot, as long as it is so."""
    model = model_name(config)
    if tick.outcome is not None:
        message = message_of(tick.outcome, model, iso(now))
        if message is not None:
            yield message
    stale = health(config.schedule, home, served_folder(config, home), now).stale
    if stale is not None:
        yield Message("stale", model, stale, iso(now))


def _standing(config: Config, home: Path, now: datetime) -> Standing:
    found = health(config.schedule, home, served_folder(config, home), now, count=1)
    version, age = found.served or (None, None)
    return Standing(
        model=model_name(config),
        now=now,
        version=version,
        published=None if age is None else now - age,
        stale=found.stale is not None,
        next_slot=found.next_slots[0] if found.next_slots else None,
        outcomes=outcomes(home),
    )
