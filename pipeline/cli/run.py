"""`bnpipe run`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, Verbose, config_from
from bnpipe.pipeline.configuration.config import Config, home_from
from bnpipe.pipeline.engine.store import Store

if TYPE_CHECKING:
    from bnpipe.pipeline.engine.execute import FinishedRun
    from bnpipe.pipeline.launch import Request


def run(
    beam_flags: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- BEAM FLAGS]", help="Flags for Beam, after `--`."),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    to: Annotated[str | None, typer.Option(help="This step and what it needs.")] = None,
    only: Annotated[str | None, typer.Option(help="This step alone, its inputs cached.")] = None,
    force: Annotated[list[str] | None, typer.Option(help="Run this step again.")] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, go on with other branches.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Run every step twice and compare the bytes.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Steps at the same time; by default one per core, at most 4.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Draw report.html at the end.")
    ] = True,
    trigger: Annotated[str | None, typer.Option(hidden=True)] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Run the pipeline: what is cached is not run again.

    Examples: `bnpipe run`, `bnpipe run --set trainer.epochs=3`, `bnpipe run --to trainer`,
    `bnpipe run -- --runner=FlinkRunner`.
    """
    from bnpipe.pipeline.engine.plan import Selection
    from bnpipe.pipeline.launch import Request

    selection = Selection(to=to, only=only, force=tuple(force or ()))
    started_by = None
    if trigger is not None:
        from bnpipe.pipeline.schedule.child import read_trigger

        started_by = read_trigger(trigger)
    flags = _flags(beam_flags or [])
    request = Request(selection, keep_going, verify, report, flags, started_by)
    if jobs is not None:
        sets = [*(sets or []), f"run.jobs={jobs}"]
    return start(config_from(config, sets), request, as_json=as_json, verbose=verbose)


def start(config: Config, request: Request, *, as_json: bool, verbose: bool) -> int:
    """Execute a request and show it; shared with `resume`."""
    from bnpipe.pipeline.launch import launch

    view = None if as_json else ui.RunView()
    try:
        result = launch(config, home_from(), request, [view] if view else [])
    finally:
        if view is not None:
            view.close()
    with ui.heard_or_not(sys.stdout):
        if view is not None:
            ui.show_summary(result.summary)
            if request.verify and result.error is None:
                ui.say("verified  every step gave the same bytes again")
        else:
            ui.write_json(result.summary)
    _track(config, result)
    if result.error is not None and isinstance(result.error, Exception):
        ui.error(result.error, trace=verbose)
    return result.exit_code


def _track(config: Config, result: FinishedRun) -> None:
    """Tell MLflow, if that is wanted and there is news."""
    tracking = config.tracking
    if tracking.mlflow is None or all(s["action"] != "run" for s in result.summary["steps"]):
        return
    from bnpipe.pipeline.tracking import track_quietly

    store = Store(home_from())
    problem = track_quietly(store, result.folder, tracking.mlflow, tracking.experiment)
    if problem is not None:
        ui.warn(problem)


def _flags(words: list[str]) -> tuple[str, ...]:
    if words and not words[0].startswith("-"):
        raise typer.BadParameter(
            f"unexpected argument {words[0]!r}; Beam's flags come after `--`, steps with --to"
        )
    return tuple(words)
