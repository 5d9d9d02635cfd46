"""`bnpipe gc`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, open_served, open_store
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
    store = open_store()
    if verify:
        return _verify(yes=yes, as_json=as_json)
    from bnpipe.pipeline.champion import runs_behind
    from bnpipe.pipeline.engine.collect import collect, find_garbage, size_of

    pinned = runs_behind(store.home, open_served(config, sets))
    garbage = (collect if yes else find_garbage)(store, keep, pinned)
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
        ui.say(_sentence(garbage, keep, yes=yes))
        if quarantined:
            damaged = store.home / "quarantine"
            ui.say(f"damaged objects, {quarantined / 1e6:.1f} MB, are yours to delete: {damaged}")
    return ExitCode.OK


def _sentence(garbage: Garbage, keep: int, *, yes: bool) -> str:
    what = f"{len(garbage.objects)} objects"
    if garbage.scratch:
        what += f" and {len(garbage.scratch)} old checkpoint folders"
    return (
        f"{'removed' if yes else 'would remove'} {what}, {garbage.size / 1e6:.1f} MB; "
        f"kept what the last {keep} runs and the served versions used"
        + ("" if yes or not garbage.size else " (do it: bnpipe gc --yes)")
    )


def _verify(*, yes: bool, as_json: bool) -> int:
    from bnpipe.pipeline.engine.collect import find_damage, set_aside

    store = open_store()
    damage = set_aside(store) if yes else find_damage(store)
    moved = "moved to quarantine; bnpipe run makes them anew"
    state = moved if yes else "gc --verify --yes moves them aside"
    ui.answer(
        {"damaged": damage, "set_aside": yes},
        *(f"{digest[:12]}  {'; '.join(faults)}" for digest, faults in damage.items()),
        f"{len(damage)} damaged objects" + (f" ({state})" if damage else ""),
        as_json=as_json,
    )
    return ExitCode.STORE if damage and not yes else ExitCode.OK
