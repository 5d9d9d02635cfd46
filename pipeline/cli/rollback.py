"""`bnpipe rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store, tell_live


def rollback(
    reason: Annotated[str, typer.Option(help="Why; shown whenever the model is held back.")],
    to: Annotated[
        int | None, typer.Option(help="The version; by default the one that was live before.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Withdraw the live model and make an older version live.

    The withdrawn model does not come back by a plain run, only by `push --force --reason`. With
    serving.server_url the running server loads the older version before the label moves.
    """
    from bnpipe.pipeline.configuration.publishing import rollout
    from bnpipe.serving.folder import versions

    settings = config_from(config, sets)
    target = rollout(settings, open_store().home)
    before, waiting = versions.live(target.base), versions.waiting(target.base)
    now = target.rollback(reason=reason, to=to)
    tell_live(settings, target.base)
    withdrawn = waiting if before == now else before
    done = f"v{withdrawn} is withdrawn: {reason}"
    if withdrawn is None:
        done = "it was already, and nothing is withdrawn"
    value = {"from": withdrawn, "to": now, "reason": reason}
    ui.answer(value, f"v{now} is live in {target.base}; {done}", as_json=as_json)
