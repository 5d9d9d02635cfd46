"""`bnpipe logs`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import open_store

_PAUSE = 0.5
"""Seconds between two looks at a log that grows."""


def logs(
    run: Annotated[str, typer.Argument(help="A run's number, or `latest`.")] = "latest",
    step: Annotated[str | None, typer.Argument(help="A step; all of them if left out.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
) -> None:
    """Print what a run's steps wrote: Python's logs, stdout and stderr."""
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.engine.runs import find_run

    store = open_store()
    folder = find_run(store, run)
    shown: dict[Path, int] = {}  # bytes of each log that were written already
    last, whole = None, True  # the log that was written last, and whether to the end of a line
    while True:
        # Asked before reading, so that what a run wrote last is still read after it has ended.
        growing = follow and folder.summary()["status"] == "running"
        files = [folder.log(step)] if step else sorted((folder.path / "logs").glob("*.log"))
        for path in (p for p in files if p.exists()):
            with path.open("rb") as stream:
                stream.seek(shown.get(path, 0))
                chunk = stream.read()
            if path != last and not step and (chunk or path not in shown):
                ui.write(f"==> {path.stem} <==" if whole else f"\n==> {path.stem} <==")
                last = path
            ui.write_raw(chunk)
            shown[path] = shown.get(path, 0) + len(chunk)
            whole = chunk.endswith(b"\n") if chunk else whole
        if not growing:
            break
        time.sleep(_PAUSE)
    if not shown:
        raise ConfigError(
            f"run {folder.id} has no log of {step or 'any step'}",
            hint=f"steps that were answered from the cache have none: bnpipe show {folder.id}",
        )
