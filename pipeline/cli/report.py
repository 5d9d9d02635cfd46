"""`bnpipe report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import Json, expand_path, open_store


def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's number, or latest.")
    ] = "latest",
    out: Annotated[
        Path | None,
        typer.Option(help="By default report.html in the run's folder.", callback=expand_path),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Draw a run's report: one HTML file that needs nothing but a browser."""
    from bnpipe.pipeline.engine.runs import find_run
    from bnpipe.pipeline.report import write_report

    store = open_store()
    folder = find_run(store, run)
    path = write_report(store, folder, out)
    ui.answer({"run": folder.id, "report": str(path)}, str(path), as_json=as_json)
    if open_it:
        import webbrowser

        webbrowser.open(path.absolute().as_uri())
