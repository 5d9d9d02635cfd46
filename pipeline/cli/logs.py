"""`bnpipe logs`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from pipeline.cli.common import open_store


def logs(
    run: Annotated[str, typer.Argument(help="A run's number, or `latest`.")] = "latest",
    step: Annotated[str | None, typer.Argument(help="A step; all of them if left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
) -> None:
    """Print what a run's steps wrote: Python's logs, stdout and stderr."""
    from pipeline import ui
    from pipeline.errors import ConfigError
    from pipeline.runs import find_run

    folder = find_run(open_store(), run)
    found = [folder.log(step)] if step else sorted((folder.path / "logs").glob("*.log"))
    missing = [p for p in found if not p.exists()]
    if missing or not found:
        raise ConfigError(
            f"run {folder.id} has no log of {step or 'any step'}",
            hint=f"steps that were answered from the cache have none: bnpipe show {folder.id}",
        )
    for path in found:
        if len(found) > 1:
            ui.write(f"==> {path.stem} <==")
        with path.open(errors="replace") as stream:
            ui.write(stream.read())
            while follow and folder.summary()["status"] == "running":
                text = stream.read()
                if text:
                    ui.write(text)
                time.sleep(0.5)
