"""The leftovers of scheduled runs: so much is kept, or a year of them fills a disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from bnpipe.pipeline.champion import runs_behind
from bnpipe.pipeline.engine.collect import collect, drop_runs
from bnpipe.pipeline.engine.errors import LockHeld
from bnpipe.pipeline.engine.store import Store


def keep_newest(store: Store, served: Path, runs: int) -> None:
    """Remove older runs' records, and what only they used.

    Runs behind versions that are served stay. While another run is at work nothing is removed;
    the next tick that has done a slot comes back to it.

    Args:
        store: the home's store.
        served: the configured served folder; those within the home count too.
        runs: how many of the newest runs stay.

    Raises:
        OSError: the disk refuses.
    """
    pinned = runs_behind(store.home, served)
    with suppress(LockHeld):
        collect(store, runs, pinned)
        drop_runs(store, runs, pinned)
