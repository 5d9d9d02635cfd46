"""`bnpipe plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode


def plan(
    sets: Sets = None,
    config: ConfigFile = None,
    to: Annotated[str | None, typer.Option(help="This step and what it needs.")] = None,
    force: Annotated[list[str] | None, typer.Option(help="As if run --force.")] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 4 when there is work to do.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show what `run` would do, and why, without doing it."""
    from bnpipe.pipeline.definition import build
    from bnpipe.pipeline.engine.plan import Selection, make_plan
    from bnpipe.pipeline.launch import require_target

    store = open_store()
    selection = Selection(to=to, force=tuple(force or ()))
    settings = config_from(config, sets)
    graph = build(settings, store.home)
    require_target(settings, graph, selection)
    made = make_plan(graph, store, selection)
    if as_json:
        ui.write_json(made.snapshot())
    else:
        ui.show_plan(made)
    return ExitCode.ATTENTION if exit_code and made.work else ExitCode.OK
