"""`bnpipe status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode


def status(
    sets: Sets = None,
    config: ConfigFile = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 4 when attention is needed.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show where things stand: the last run, the steps that are stale, what is served.

    With `--exit-code` it exits with 4 when the served model is stale, when the last slot of the
    schedule failed or is overdue, and, where nothing is scheduled, when there is work to do.
    """
    from bnpipe.pipeline.configuration.publishing import served_folder
    from bnpipe.pipeline.definition import build
    from bnpipe.pipeline.engine.lock import at_work
    from bnpipe.pipeline.engine.plan import make_plan
    from bnpipe.pipeline.engine.runs import summaries
    from bnpipe.pipeline.schedule import canary
    from bnpipe.pipeline.schedule.health import health
    from bnpipe.serving.folder import versions

    store = open_store()
    resolved = config_from(config, sets)
    work = [s.name for s in make_plan(build(resolved, store.home), store).work]
    served = served_folder(resolved, store.home)
    now, left = datetime.now(UTC), canary.exhausted(resolved, store)
    schedule = health(resolved.schedule, store.home, served, now, count=1, exhausted=left)
    attention = list(schedule.attention)
    if work and not schedule.next_slots:
        attention.append(f"to run: {', '.join(work)}")
    running, last = at_work(store.home), next(summaries(store), None)
    live, estimate = versions.live(served), schedule.estimate
    value = {
        "home": str(store.home),
        "running": bool(running),
        "at_work": running,
        "last_run": last,
        "work": work,
        "attention": attention,
        "served": {"folder": str(served), "live": live},
        "estimate": estimate and asdict(estimate),
    }
    ui.answer(
        value,
        f"home      {store.home}",
        *(f"at work   {who}" for who in running),
        f"last run  {last['id']} {last['status']}" if last else "last run  none yet",
        f"to run    {', '.join(work) or 'nothing'}",
        f"served    {f'v{live}' if live else 'nothing'} in {served}",
        *([f"estimate  {estimate.sentence} ({estimate.time})"] if estimate else ()),
        *(f"attention {sentence}" for sentence in schedule.attention),
        as_json=as_json,
    )
    return ExitCode.ATTENTION if exit_code and attention else ExitCode.OK
