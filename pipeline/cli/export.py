"""`bnpipe export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import open_store


def export(
    target: Annotated[str, typer.Argument(metavar="RUN/STEP", help="E.g. latest/trainer.")],
    folder: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
) -> None:
    """Copy what a step made out of the store, after checking every byte."""
    from bnpipe.data.durable import copy_tree, make_folder
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.engine.manifest import MANIFEST
    from bnpipe.pipeline.engine.runs import find_run

    store = open_store()
    run, _, step = target.partition("/")
    steps = {s["name"]: s for s in find_run(store, run).summary()["steps"]}
    outputs = steps.get(step, {}).get("outputs")
    if not outputs:
        able = ", ".join(name for name, s in steps.items() if s["outputs"])
        raise ConfigError(f"run {run} made nothing called {step!r}", hint=f"it has: {able}")
    if folder.exists():
        raise ConfigError(f"{folder} exists already", hint="name a folder that does not")
    for field, digest in outputs.items():
        source = store.require(digest, deep=True)
        into = folder / field if len(outputs) > 1 else folder
        make_folder(into.parent)
        copy_tree(source, into)
        (into / MANIFEST).unlink()  # the store's; one further down is the step's own
    ui.say(f"{target} is in {folder}")
