"""A text file of gauges for the node exporter's textfile collector: what a monitor alerts on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from bnpipe.data.durable import is_foreign, replace_bytes
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule.health import Health
from bnpipe.pipeline.schedule.outcome import Outcome, Result

_OURS = re.compile(r"\A# HELP bnpipe_")
_GOOD = {Result.PUSHED, Result.UNCHANGED}


def write_metrics(
    path: Path, model: str, state: Health, settled: Sequence[Outcome], now: datetime
) -> None:
    """Write the file as a whole or not at all.

    Args:
        path: the file.
        model: the model's name.
        state: of the schedule.
        settled: the outcomes that are kept, oldest first.
        now: the present moment, aware.

    Raises:
        ConfigError: its name is none that the collector reads, it is somebody else's, or its folder
            cannot be written.
    """
    if path.suffix != ".prom":
        raise ConfigError(
            f"notify.prometheus_file must end in .prom, got {path.name}",
            hint="the collector reads *.prom only",
        )
    if is_foreign(path, _OURS):
        raise ConfigError(
            f"{path} was not written by bnpipe, and is left as it is",
            hint="set notify.prometheus_file to a file of its own",
        )
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float | datetime | None) -> None:
        if value is not None:
            labelled = Gauge(f"bnpipe_{name}", text, ["model"], registry=registry)
            seconds = value.timestamp() if isinstance(value, datetime) else value
            labelled.labels(model).set(seconds)

    version, age = state.served or (None, None)
    published = None if age is None else now - age
    since = len(list(takewhile(lambda o: o.result not in _GOOD, reversed(settled))))
    good = settled[: len(settled) - since]
    success = datetime.fromisoformat(good[-1].ended) if good else None
    gauge("tick_timestamp_seconds", "Time of the last tick.", now)
    gauge("served_version", "The version that is live.", version)
    text = "Time at which the live version was published."
    gauge("served_model_timestamp_seconds", text, published)
    text = "1 if the live version is older than configured."
    gauge("served_model_stale", text, state.stale is not None)
    if state.estimate is not None:
        estimate = state.estimate
        text = "Share of logged requests that the live version is estimated to answer right."
        gauge("estimated_accuracy", text, estimate.accuracy)
        gauge("estimated_accuracy_low", "Lower end of its 99 % interval.", estimate.low)
        gauge("estimated_accuracy_high", "Upper end of its 99 % interval.", estimate.high)
        text = "1 if the answers to them are others than those of the evaluation."
        gauge("answer_drift", text, estimate.drift)
        time = datetime.fromisoformat(estimate.time)
        gauge("estimate_timestamp_seconds", "Time of that estimate.", time)
    gauge(
        "next_slot_timestamp_seconds", "Time of the next slot.", next(iter(state.next_slots), None)
    )
    text = "Time at which a slot last ended with a new version, or with nothing to do."
    gauge("last_success_timestamp_seconds", text, success)
    gauge("slots_since_success", "Settled slots since then.", since)
    if settled:
        text = "1 for the result of the last settled slot."
        last = Gauge("bnpipe_last_result", text, ["model", "result"], registry=registry)
        for result in Result:
            last.labels(model, result).set(settled[-1].result is result)
    try:
        # Readable by the collector, which is another user, whatever the umask is.
        replace_bytes(path, generate_latest(registry), durable=False)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
