"""Garbage: what no kept run and no served version needs any more, and what is damaged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.pipeline.engine.files import remove_tree
from bnpipe.pipeline.engine.lock import alone_in
from bnpipe.pipeline.engine.runs import put_in_order, summaries
from bnpipe.pipeline.engine.store import StepRecord, Store

SCRATCH_SECONDS = 7 * 24 * 3600
"""A killed run's record does not list the step at work, so its checkpoints are kept by age."""


@dataclass(frozen=True)
class Garbage:
    """All that a collection would remove.

    Attributes:
        objects: digest and size in bytes.
        records: step records that name a removed object.
        scratch: step key and size in bytes of what killed steps kept and nobody came back for.
    """

    objects: tuple[tuple[str, int], ...]
    records: tuple[StepRecord, ...]
    scratch: tuple[tuple[str, int], ...] = ()

    @property
    def size(self) -> int:
        """Bytes that would become free."""
        return sum(size for _, size in (*self.objects, *self.scratch))


def find_garbage(store: Store, keep_runs: int, pinned_runs: Iterable[str] = ()) -> Garbage:
    """Objects and old scratch that neither the newest runs nor the pinned ones used.

    Args:
        store: where to look.
        keep_runs: the newest runs whose inputs and outputs stay.
        pinned_runs: further runs that stay, such as those behind served versions.
    """
    pinned = set(pinned_runs)
    kept = [r for i, r in enumerate(summaries(store)) if i < keep_runs or r["id"] in pinned]
    used = {digest for run in kept for digest in _digests(run)}
    ids = {run["id"] for run in kept}
    # What a killed run finished is in no summary; the next run goes on from it.
    used |= {d for record in store.records() if record.run in ids for d in record.outputs.values()}
    doomed = [d for d in store.digests() if d not in used]
    gone = set(doomed)
    records = tuple(r for r in store.records() if gone & set(r.outputs.values()))
    return Garbage(
        tuple((d, size_of(store.object_path(d))) for d in doomed),
        records,
        tuple((p.name, size_of(p)) for p in _old_scratch(store, kept)),
    )


def _old_scratch(store: Store, kept: Iterable[dict[str, Any]]) -> Iterator[Path]:
    keys = {step.get("key") for run in kept for step in run.get("steps", [])}
    for folder in sorted(store.home.glob("scratch/*")):
        with suppress(FileNotFoundError):  # a run at work replaces its checkpoints
            newest = max(p.stat().st_mtime for p in (folder, *folder.rglob("*")))
            if folder.name not in keys and time.time() - newest > SCRATCH_SECONDS:
                yield folder


def collect(store: Store, keep_runs: int, pinned_runs: Iterable[str] = ()) -> Garbage:
    """Find garbage and remove it: records first, so that no record ever names a removed object.

    Raises:
        LockHeld: a run is at work; what it is about to use cannot be told from garbage.
    """
    if not store.has_objects:  # nothing to remove: no lock file, no home is made for it
        return find_garbage(store, keep_runs, pinned_runs)
    with alone_in(store.home):
        put_in_order(store)
        garbage = find_garbage(store, keep_runs, pinned_runs)
        for record in garbage.records:
            store.forget_step(record.key)
        for digest, _ in garbage.objects:
            # Out of sight in one step; a kill while its files go leaves them in tmp.
            doomed = store.home / "tmp" / f"gc-{digest}"
            store.object_path(digest).rename(doomed)
            remove_tree(doomed)
        for key, _ in garbage.scratch:
            store.drop_scratch(key)
    return garbage


def drop_runs(store: Store, keep_runs: int, pinned_runs: Iterable[str] = ()) -> list[str]:
    """Remove the folders of all runs but the newest and the pinned ones; returns their ids.

    Raises:
        LockHeld: a run is at work.
    """
    if not store.has_objects:
        return []
    with alone_in(store.home):
        put_in_order(store)
        ids = [str(run["id"]) for run in summaries(store)]
        doomed = [run for run in ids[keep_runs:] if run not in set(pinned_runs)]
        for run in doomed:
            gone = store.home / "tmp" / f"gc-run-{run}"
            (store.runs / run).rename(gone)
            remove_tree(gone)
    return doomed


def find_damage(store: Store) -> dict[str, list[str]]:
    """The faults of damaged objects by digest, after hashing every byte of the store."""
    checked = {digest: store.faults(digest, deep=True) for digest in store.digests()}
    return {digest: faults for digest, faults in checked.items() if faults}


def set_aside(store: Store) -> dict[str, list[str]]:
    """Find damage and move it to `quarantine/`; the next run makes it anew.

    Returns:
        what `find_damage` found, under the lock that the moves are made under.

    Raises:
        LockHeld: a run is at work.
    """
    if not store.has_objects:
        return {}
    with alone_in(store.home):
        damage = find_damage(store)
        for digest in damage:
            store.quarantine(digest)
    return damage


def _digests(run: dict[str, Any]) -> Iterable[str]:
    for step in run.get("steps", []):
        yield from filter(None, {**step.get("inputs", {})}.values())
        yield from step.get("outputs", {}).values()


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; 0 if it is not there."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
