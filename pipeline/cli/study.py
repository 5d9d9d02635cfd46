"""`bnpipe study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import (
    ConfigFile,
    Json,
    Sets,
    Verbose,
    config_from,
    expand_path,
    open_store,
)
from bnpipe.pipeline.configuration.config import Config, home_from

if TYPE_CHECKING:
    from bnpipe.pipeline.launch import Request


def study(
    sets: Sets = None,
    config: ConfigFile = None,
    force: Annotated[list[str] | None, typer.Option(help="Run this step again.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The page; by default study.html in the run's folder.", callback=expand_path
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Find out what is true of what is said about batch normalisation, on this data.

    Trains some hundred small networks, paired by seed, and gives each of six claims a verdict.
    What is cached is not run again. Examples: `bnpipe study`, `bnpipe study --set study.seeds=10`.
    """
    from bnpipe.pipeline.engine.plan import Selection
    from bnpipe.pipeline.launch import Request

    request = Request(Selection(force=tuple(force or ())), report=False)  # it has its own page
    return start(config_from(config, sets), request, out, as_json=as_json, verbose=verbose)


def start(
    config: Config, request: Request, out: Path | None = None, *, as_json: bool, verbose: bool
) -> int:
    """Execute a request and show the verdicts; shared with `resume`."""
    from bnpipe.pipeline.study import launch

    view = None if as_json else ui.RunView()
    try:
        result = launch(config, home_from(), request, [view] if view else [])
    finally:
        if view is not None:
            view.close()
    if result.error is not None:
        if isinstance(result.error, Exception):
            ui.error(result.error, trace=verbose)
        return result.exit_code

    from bnpipe.pipeline.report.study import judged, write_study

    found = judged(open_store(), result.folder)
    page = write_study(found, out)
    with ui.heard_or_not(sys.stdout):
        if as_json:
            ui.write_json({**found.to_json(), "page": str(page)})
        else:
            claims = [(f.claim, f) for f in found.findings]
            rows = [
                (f"{claim.letter}: {claim.title}", claim.measured, f.effect_text, f.verdict)
                for claim, f in claims
            ]
            ui.table(("claim", "measured", "effect [95 %]", "verdict"), rows)
            for claim, f in claims:
                ui.say(f"{claim.letter} {f.verdict}: {f.sentence}")
            ui.say(
                "times: of what the first of two arms needs, the second needs so many times as much"
            )
            ui.say(f"page  {page}")
    return result.exit_code
