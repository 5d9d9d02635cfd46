"""`bnpipe rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store


def rollback(
    reason: Annotated[str, typer.Option(help="Why; shown whenever the model is held back.")],
    to: Annotated[int | None, typer.Option(help="The version; by default the one before.")] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Withdraw the live model and make an older version live.

    The withdrawn model does not come back by a plain run, only by `push --force --reason`.
    """
    from pipeline import ui
    from pipeline.definition import served_folder
    from serving import versions
    from serving.labels import rollback as roll_back

    base = served_folder(config_from(config, sets), open_store().home)
    before = versions.live(base)
    now = roll_back(base, reason=reason, to=to)
    if as_json:
        ui.write_json({"from": before, "to": now, "reason": reason})
    else:
        ui.say(f"v{now} is live in {base}; v{before} is withdrawn: {reason}")
