"""`bnpipe promote`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store, tell_live


def promote(
    version: Annotated[int, typer.Argument(help="E.g. 3.")],
    label: Annotated[str, typer.Option(help="stable or canary.")] = "stable",
    soak: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Ask the servers for it beside the live one first, e.g. 10m, and withdraw it "
            "when it is worse.",
        ),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Move a label to a version.

    With serving.server_url the running servers load the version before the label moves; without,
    a running server must be restarted. Exit code 3 if a soak withdrew it or decided nothing. With
    canary.bake and such servers the version that became live is watched: at once after a soak,
    else by the schedule's next tick.
    """
    from bnpipe.pipeline.configuration.publishing import rollout
    from bnpipe.pipeline.engine.errors import ExitCode

    more = [] if soak is None else [f"canary.soak={soak}"]
    settings, store = config_from(config, [*(sets or []), *more]), open_store()
    if soak is not None:
        from bnpipe.pipeline.engine.errors import ConfigError
        from bnpipe.pipeline.schedule.canary import promote_after_soak
        from bnpipe.pipeline.schedule.outcome import Result

        if label != "stable":
            raise ConfigError(f"--soak: expected --label stable, received {label!r}")
        ran = promote_after_soak(settings, store, version)
        tell_live(settings, rollout(settings, store.home).base)
        value = {"version": version, "label": label, "result": ran.result, "sentence": ran.sentence}
        ui.answer(value, ran.sentence, as_json=as_json)
        undecided = ran.exit_code is ExitCode.OK and ran.result is not Result.PUSHED
        return ExitCode.VERDICT if undecided else ran.exit_code
    target = rollout(settings, store.home)
    bake, watched = settings.canary.bake if label == "stable" and target.servers else None, ""
    if bake and not (settings.schedule.every or settings.schedule.cron):  # nothing ticks here
        bake, watched = None, f"; to watch it: bnpipe promote {version} --soak 10m"
    elif bake:
        watched = f"; the schedule's next tick watches it for {bake}"
    target.promote(version, label=label, bake=bake is not None)
    tell_live(settings, target.base)
    sentence = f"{label} is v{version} in {target.base}{watched}"
    value = {"version": version, "label": label, "watched_for": bake}
    ui.answer(value, sentence, as_json=as_json)
    return ExitCode.OK
