"""`bnpipe gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode

if TYPE_CHECKING:
    from bnpipe.pipeline.engine.collect import Garbage


def gc(
    keep: Annotated[int, typer.Option(min=1, help="Keep what the newest runs used.")] = 10,
    verify: Annotated[
        bool, typer.Option("--verify", help="Hash every byte and find damaged objects instead.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what.")] = False,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Remove what no kept run and no served version needs; dry unless --yes."""
    from bnpipe.pipeline.configuration.publishing import served_folder

    store = open_store()
    if verify:
        return _verify(yes=yes, as_json=as_json)
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.champion import runs_behind
    from bnpipe.pipeline.engine.collect import collect, find_garbage, size_of

    # Every data set's models live here; the configured folder may be elsewhere.
    here = (p for p in store.home.glob("served/*") if p.is_dir())
    served = {served_folder(config_from(config, sets), store.home), *here}
    garbage = (collect if yes else find_garbage)(store, keep, runs_behind(*served))
    quarantined = size_of(store.home / "quarantine")
    if as_json:
        ui.write_json(
            {
                "removed": yes,
                "bytes": garbage.size,
                "objects": [d for d, _ in garbage.objects],
                "scratch": [key for key, _ in garbage.scratch],
                "quarantine_bytes": quarantined,
            }
        )
    else:
        _tell(garbage, keep, yes=yes)
        if quarantined:
            damaged = store.home / "quarantine"
            ui.say(f"damaged objects, {quarantined / 1e6:.1f} MB, are yours to delete: {damaged}")
    return ExitCode.OK


def _tell(garbage: Garbage, keep: int, *, yes: bool) -> None:
    from bnpipe.pipeline import ui

    what = f"{len(garbage.objects)} objects"
    if garbage.scratch:
        what += f" and {len(garbage.scratch)} old checkpoint folders"
    ui.say(
        f"{'removed' if yes else 'would remove'} {what}, {garbage.size / 1e6:.1f} MB; "
        f"kept what the last {keep} runs and the served versions used"
        + ("" if yes or not garbage.size else " (do it: bnpipe gc --yes)")
    )


def _verify(*, yes: bool, as_json: bool) -> int:
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.engine.collect import find_damage, set_aside

    store = open_store()
    damage = set_aside(store) if yes else find_damage(store)
    if as_json:
        ui.write_json({"damaged": damage, "set_aside": yes})
    else:
        for digest, faults in damage.items():
            ui.say(f"{digest[:12]}  {'; '.join(faults)}")
        done = (
            "moved to quarantine; bnpipe run makes them anew"
            if yes
            else "gc --verify --yes moves them aside"
        )
        ui.say(f"{len(damage)} damaged objects" + (f" ({done})" if damage else ""))
    return ExitCode.STORE if damage and not yes else ExitCode.OK
