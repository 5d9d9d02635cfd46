"""`bnpipe retrain`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from
from bnpipe.pipeline.configuration.config import home_from


def retrain(
    due: Annotated[bool, typer.Option("--due", help="Do the slot that is due, if one is.")] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Retrain now, and why, for the record.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Retrain when the schedule says so, or now.

    `--due` is one tick: call it every few minutes, from anywhere, as often as you like; a slot is
    done once. Exits with 0 when nothing is due or somebody else is at work, else as the run does.

    Examples: `bnpipe retrain --due`, `bnpipe retrain --reason "new scanner"`.
    """
    if due == (reason is not None):
        raise typer.BadParameter("give --due, or --reason TEXT to retrain now")
    from bnpipe.pipeline.schedule.retrain import retrain as tick
    from bnpipe.pipeline.schedule.tell import tell

    resolved, home = config_from(config, sets), home_from()
    done = tick(resolved, home, option_words(config, sets), reason=reason, quiet=as_json)
    for problem in tell(resolved, home, done, datetime.now(UTC)):
        ui.warn(problem)
    with ui.heard_or_not(sys.stdout):
        ui.answer(asdict(done), done.sentence, as_json=as_json)
    return done.exit_code


def option_words(config: Path | None, sets: list[str] | None) -> list[str]:
    """The options that lead to the same configuration in another process."""
    words = ["--config", str(config)] if config else []
    for text in sets or []:
        words += ["--set", text]
    return words
