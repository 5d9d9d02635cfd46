"""`bnpipe promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store


def promote(
    version: Annotated[int, typer.Argument(help="E.g. 3.")],
    label: Annotated[str, typer.Option(help="stable or canary.")] = "stable",
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Move a label to a version.

    With serving.server_url the running server loads the version before the label moves; without,
    a running server must be restarted.
    """
    from bnpipe.pipeline.configuration.publishing import rollout

    target = rollout(config_from(config, sets), open_store().home)
    target.promote(version, label=label)
    sentence = f"{label} is v{version} in {target.base}"
    ui.answer({"version": version, "label": label}, sentence, as_json=as_json)
