"""`bnpipe canary`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode

_COLUMNS = "label", "requests", "failed", "share", "between", "refused", "absent", "p50", "p99"

app = typer.Typer(help="See how the version on trial does.", no_args_is_help=True)


@app.callback()
def canary() -> None:
    """Makes `status` a verb of its own while it is the only one."""


@app.command()
def status(
    sets: Sets = None,
    config: ConfigFile = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 4 when the canary is shown to be worse.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Count errors and latency of real requests by label, from the log of nginx.

    The nginx is that of `bnpipe deploy render`. Counted is what was asked without a label since the
    version is the canary and the share is what it is. It may be looked at at any time: while that
    share stays, a canary that is no worse is shown to be worse with a probability of 1 % at most.
    """
    from bnpipe.pipeline.configuration.publishing import served_folder, traffic_log
    from bnpipe.serving.client.soak import Rules, Verdict
    from bnpipe.serving.deploy.traffic import read
    from bnpipe.serving.folder import versions

    settings, home = config_from(config, sets), open_store().home
    base, margins = served_folder(settings, home), settings.canary
    version = versions.on_trial(base)
    since = _labelled_at(base, version) if version else None
    rules = Rules(error_margin=margins.error_margin, latency_margin=margins.latency_margin)
    traffic, unread = read(traffic_log(settings, home), rules, since)
    verdict, sentence = traffic.verdict() if version else (None, "no version is on trial")
    labels = {name: getattr(traffic, name).to_json() for name in ("stable", "canary")}
    value = {"canary": version, "share": traffic.share, "labels": labels, "unread_lines": unread}
    if as_json:
        ui.write_json({**value, "verdict": verdict, "sentence": sentence})
    else:
        ui.table(_COLUMNS, ((name, *_row(label)) for name, label in labels.items()))
        ui.say(f"{f'v{version}: ' if version else ''}{sentence}")
        if version and traffic.share == 1:
            ui.say("the share is 1: stable gets no requests to compare with")
        if unread:
            ui.say(f"{unread} lines of the log are none of nginx's")
    return ExitCode.ATTENTION if exit_code and verdict is Verdict.FAIL else ExitCode.OK


def _labelled_at(base: Path, version: int) -> float:
    """When every server knows a version as the canary, in seconds since 1970."""
    from datetime import datetime

    from bnpipe.serving.deploy.settings import POLL_SECONDS
    from bnpipe.serving.folder import ledger

    history, at = ledger.History(), ""
    for event in map(json.loads, ledger.whole_lines(base).splitlines()):
        before = history.labels.get("canary")
        history.apply(event)
        if before != version == history.labels.get("canary"):  # not promoted once more
            at = event["at"]
    return datetime.fromisoformat(at).timestamp() + POLL_SECONDS + 1


def _row(label: dict[str, Any]) -> tuple[Any, ...]:
    """A label's line of the table."""
    lower, upper = label["failed_between"]
    share = f"{label['failed_share']:.2%}", f"{lower:.2%} to {upper:.2%}"
    times = ("" if t is None else f"{t:.0f} ms" for t in (label["p50_ms"], label["p99_ms"]))
    return label["requests"], label["failed"], *share, label["refused"], label["absent"], *times
