"""`bnpipe schedule`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, expand_path, open_store

if TYPE_CHECKING:
    from bnpipe.pipeline.configuration.config import Config
    from bnpipe.pipeline.schedule.health import Health

app = typer.Typer(
    help="Retrain on a schedule: run the scheduler, render files for another one, see how it does."
)


@app.command()
def run(sets: Sets = None, config: ConfigFile = None) -> None:
    """Run the scheduler in the foreground: `bnpipe retrain --due` every few minutes.

    SIGTERM and Ctrl-C stop it; a slot that is being done gets `schedule.grace_seconds` to end, and
    is finished by the next tick otherwise.
    """
    from bnpipe.pipeline.cli.retrain import option_words
    from bnpipe.pipeline.schedule.child import COMMAND
    from bnpipe.pipeline.schedule.daemon import Daemon
    from bnpipe.pipeline.schedule.health import require_timetable
    from bnpipe.pipeline.schedule.notify import check_receivers

    settings = config_from(config, sets)
    section = settings.schedule
    require_timetable(section)
    check_receivers(settings.notify)

    def say(line: str) -> None:
        with suppress(OSError, SystemExit):  # a full disk behind the log may have room again
            ui.say(line)
            sys.stdout.flush()

    words = (*COMMAND, "retrain", "--due", "--json", *option_words(config, sets))
    Daemon(words, seconds=section.tick_seconds, grace=section.grace_seconds, say=say).run()


@app.command()
def status(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """Show the next slots, the last outcomes, the age of the served model, what is being done."""
    from datetime import UTC, datetime

    from bnpipe.pipeline.configuration.publishing import served_folder
    from bnpipe.pipeline.schedule import canary
    from bnpipe.pipeline.schedule.health import health

    store, resolved = open_store(), config_from(config, sets)
    now, served = datetime.now(UTC), served_folder(resolved, store.home)
    left = canary.exhausted(resolved, store)
    state = health(resolved.schedule, store.home, served, now, exhausted=left)
    if as_json:
        ui.write_json(_plain(state))
    else:
        _show(state, resolved.schedule.timezone)


@app.command()
def render(
    kind: Annotated[str, typer.Option(help="systemd, cron, kubernetes or airflow.")],
    output: Annotated[Path, typer.Option(help="Folder to write to.", callback=expand_path)] = Path(
        "schedule"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace files of others too.")] = False,
    image: Annotated[
        str | None, typer.Option(help="Image with bnpipe installed, for Kubernetes.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write the files with which another scheduler calls `bnpipe retrain --due`.

    With `schedule.per_step`, Airflow calls `bnpipe run --only STEP` instead, for every step.
    """
    import yaml

    from bnpipe.data.durable import write_files
    from bnpipe.pipeline.cli.retrain import option_words
    from bnpipe.pipeline.configuration.duration import parse_duration
    from bnpipe.pipeline.definition import build
    from bnpipe.pipeline.schedule.child import COMMAND
    from bnpipe.pipeline.schedule.render import OURS, TickCommand, waits
    from bnpipe.pipeline.schedule.render import render as files_of

    resolved = config_from(config, sets)
    section = resolved.schedule
    limit, per_step = section.time_limit, section.per_step
    seconds = parse_duration(limit).total_seconds() if limit else None
    verb = ("run",) if per_step else ("retrain", "--due")
    tick = TickCommand(
        command=(*COMMAND, *verb, *option_words(config and config.absolute(), sets)),
        folder=Path.cwd(),
        environment=_variables(),
        time_limit=seconds,
        beyond=0.0 if per_step else _beyond(resolved, seconds or 0.0),
        grace=section.grace_seconds,
        image=image,
        config=yaml.safe_dump(resolved.snapshot(), sort_keys=False),
        home_mb=resolved.deploy.beam.home_mb,
        home_shared=resolved.beam.engine not in ("local", "prism"),
        steps=waits(build(resolved, open_store().home)) if per_step else {},
        slots=parse_duration(section.every) if section.every else section.cron,
        timezone=section.timezone,
        attempts=section.attempts,
        backoff=section.backoff_seconds,
    )
    files = files_of(kind, tick)
    write_files(output, files, OURS, force=force)
    value = {"folder": str(output), "files": list(files)}
    ui.answer(value, *(str(output / name) for name in files), as_json=as_json)


def _beyond(config: Config, limit: float) -> float:
    """Seconds of a tick besides its run, at most: looking at data, soak and bake when slowest."""
    from bnpipe.pipeline.configuration.duration import parse_duration

    looking = limit if {"drift", "accuracy", "estimate"} & set(config.schedule.triggers) else 0.0
    soak = config.canary.soak if config.serving.rollout == "canary" else None
    lengths = (parse_duration(t) for t in (soak, config.canary.bake) if t)
    return looking + 2 * sum(length.total_seconds() for length in lengths)


def _variables() -> dict[str, str]:
    """Variables that lead a tick to this home and configuration; secrets stay where they are."""
    from bnpipe.pipeline.configuration.config import local_path

    paths = {name: os.environ.get(name) for name in ("BNPIPE_CONFIG", "BNPIPE_ARCHIVES")}
    absolute = {
        name: str(local_path(path, name).absolute()) for name, path in paths.items() if path
    }
    return {"BNPIPE_HOME": str(open_store().home), **absolute}


def _plain(state: Health) -> dict[str, Any]:
    from bnpipe.pipeline.schedule.slot import iso

    version, age = state.served or (None, None)
    return {
        "attention": list(state.attention),
        "next_slots": [iso(slot) for slot in state.next_slots],
        "outcomes": [outcome.to_json() for outcome in state.last],
        "claims": [claim.to_json() for claim in state.claims],
        "working": state.working,
        "served": {"version": version, "age_seconds": age and round(age.total_seconds())},
        "ticked": state.ticked and iso(state.ticked),
        "page": state.page and str(state.page),
    }


def _show(state: Health, timezone: str) -> None:
    from zoneinfo import ZoneInfo

    from bnpipe.pipeline.configuration.duration import in_words
    from bnpipe.pipeline.schedule.slot import iso

    zone = ZoneInfo(timezone)
    slots = ", ".join(f"{slot.astimezone(zone):%a %Y-%m-%d %H:%M}" for slot in state.next_slots)
    ui.say(f"next      {f'{slots} ({timezone})' if slots else 'nothing is scheduled'}")
    if state.served:
        ui.say(f"served    v{state.served[0]}, {in_words(state.served[1])} old")
    else:
        ui.say("served    nothing that was published here")
    ui.say(f"ticked    {iso(state.ticked) if state.ticked else 'never'}")
    if state.page:
        ui.say(f"page      {state.page}")
    for claim in state.claims:
        doing = "is being done" if state.working else "waits for another attempt"
        ui.say(f"claimed   {claim.slot.iso} {doing}; attempts: {len(claim.attempts)}")
    for sentence in state.attention:
        ui.say(f"attention {sentence}")
    if state.last:
        rows = [
            (o.slot, str(o.result), o.run or "", "; ".join(map(str, o.reasons)), o.sentence)
            for o in reversed(state.last)
        ]
        ui.table(("slot", "outcome", "run", "why", "what"), rows)
