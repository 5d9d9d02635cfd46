"""A text file of gauges for the node exporter's textfile collector: what a monitor alerts on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule.outcome import Outcome, Result

_GOOD = {Result.PUSHED, Result.UNCHANGED}


@dataclass(frozen=True, kw_only=True)
class Gauges:
    """How things stand, for monitors.

    Attributes:
        model: the model's name.
        now: when this was found out.
        version: the version that is live; None when none is.
        published: when it was published.
        stale: whether it is older than it should be.
        next_slot: the next one; None without a timetable.
        outcomes: the outcomes that are kept, oldest first.
    """

    model: str
    now: datetime
    version: int | None
    published: datetime | None
    stale: bool
    next_slot: datetime | None
    outcomes: Sequence[Outcome]


def write_metrics(path: Path, gauges: Gauges) -> None:
    """Write the file as a whole or not at all.

    Raises:
        ConfigError: its name is none that the collector reads, or its folder cannot be written.
    """
    if path.suffix != ".prom":
        raise ConfigError(
            f"notify.prometheus_file must end in .prom, got {path.name}",
            hint="the collector reads *.prom only",
        )
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | None) -> None:
        if value is not None:
            labelled = Gauge(f"bnpipe_{name}", text, ["model"], registry=registry)
            labelled.labels(gauges.model).set(value)

    gauge("tick_timestamp_seconds", "Time of the last tick.", gauges.now.timestamp())
    gauge("served_version", "The version that is live.", gauges.version)
    gauge(
        "served_model_timestamp_seconds",
        "Time at which the live version was published.",
        gauges.published.timestamp() if gauges.published else None,
    )
    gauge("served_model_stale", "1 if the live version is older than configured.", gauges.stale)
    gauge(
        "next_slot_timestamp_seconds",
        "Time of the next slot.",
        gauges.next_slot.timestamp() if gauges.next_slot else None,
    )
    good = [o for o in gauges.outcomes if o.result in _GOOD]
    gauge(
        "last_success_timestamp_seconds",
        "Time at which a slot last ended with a new version, or with nothing to do.",
        datetime.fromisoformat(good[-1].ended).timestamp() if good else None,
    )
    gauge(
        "slots_since_success",
        "Settled slots since then.",
        len(gauges.outcomes) - 1 - gauges.outcomes.index(good[-1])
        if good
        else len(gauges.outcomes),
    )
    if gauges.outcomes:
        last = Gauge(
            "bnpipe_last_result",
            "1 for the result of the last settled slot.",
            ["model", "result"],
            registry=registry,
        )
        for result in Result:
            last.labels(gauges.model, result).set(gauges.outcomes[-1].result is result)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
