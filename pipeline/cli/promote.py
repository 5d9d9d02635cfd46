"""`bnpipe promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store


def promote(
    version: Annotated[int, typer.Argument(help="E.g. 3.")],
    label: Annotated[str, typer.Option(help="stable or canary.")] = "stable",
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Move a label to a version.

    A server that follows models.config must have the version AVAILABLE before `stable` moves to
    it; promoting it to `canary` first makes the server load it.
    """
    from pipeline import ui
    from pipeline.definition import served_folder
    from serving.labels import promote as move

    base = served_folder(config_from(config, sets), open_store().home)
    move(base, version, label=label)
    if as_json:
        ui.write_json({"version": version, "label": label})
    else:
        ui.say(f"{label} is v{version} in {base}")
