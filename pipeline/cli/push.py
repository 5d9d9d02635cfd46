"""`bnpipe push`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store


def push(
    run: Annotated[str, typer.Argument(help="A run's number, or `latest`.")] = "latest",
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is not blessed, or was withdrawn.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why; recorded, needed by --force.")] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Publish the model of a run.

    `bnpipe run` publishes a blessed model by itself. This verb is for what it will not do: a model
    that a gate refused, or one that was rolled back, with a reason for the record.
    """
    from bnpipe.pipeline.configuration.publishing import pusher_params
    from bnpipe.pipeline.engine.runs import find_run
    from bnpipe.pipeline.push import push as publish

    if force and not (reason or "").strip():
        raise typer.BadParameter("--force needs --reason: it is recorded with the version")
    store = open_store()
    params = pusher_params(config_from(config, sets), store.home)
    done = publish(store, find_run(store, run), params, force=reason if force else None)
    value = {
        "version": done.version,
        "path": str(done.path),
        "digest": done.digest,
        "new": done.new,
        "signed": done.signed,
        "label": "stable" if done.live else "canary",
    }
    state = "live" if done.live else "the canary"
    already = "" if done.new else " (it was already" + ", and is signed now" * done.signed + ")"
    ui.answer(value, f"v{done.version} is {state} in {done.path}{already}", as_json=as_json)
