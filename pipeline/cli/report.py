"""`bnpipe report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import Json, expand_path, open_store

if TYPE_CHECKING:
    from bnpipe.pipeline.engine.store import Store


def report(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's number, or latest.", show_default="latest"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="By default report.html in the run's folder.", callback=expand_path),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="All runs and versions over time: overview.html in the home."),
    ] = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Draw a run's report, or one of all runs: one HTML file that needs nothing but a browser."""
    store = open_store()
    if everything:
        path, answer = _overview(store, run, out)
    else:
        from bnpipe.pipeline.engine.runs import find_run
        from bnpipe.pipeline.report import write_report

        folder = find_run(store, "latest" if run is None else run)
        path = write_report(store, folder, out)
        answer = {"run": folder.id, "report": str(path)}
    ui.answer(answer, str(path), as_json=as_json)
    if open_it:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())


def _overview(store: Store, run: str | None, out: Path | None) -> tuple[Path, dict[str, Any]]:
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.report.overview import write_overview

    if run is not None:
        raise ConfigError(
            f"report {run} --all: expected one run or all", hint="leave out one of the two"
        )
    path, found = write_overview(store, out)
    answer = {"report": str(path), "runs": len(found.runs), "unreadable": found.unreadable}
    return path, answer
