"""One run at a time per home."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnpipe.data.flock import is_locked, locked
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.engine.errors import LockHeld


@contextmanager
def run_lock(home: Path) -> Iterator[None]:
    """Hold the home's lock.

    Raises:
        LockHeld: another process holds it; the message names it.
    """
    with try_lock(home / "lock") as mine:
        if not mine:
            raise LockHeld(
                f"another run is at work in {home} ({holder(home)})",
                hint="wait for it, or point BNPIPE_HOME at another folder",
            )
        yield


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Take the flock of a file, made if need be; yields whether it was to be had.

    Whoever has it finds its process in the file: `{"pid": 123}`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path) as descriptor:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json_text({"pid": os.getpid()}).encode(), 0)
        yield descriptor is not None


def is_held(home: Path) -> bool:
    """True while a run is at work in this home."""
    return is_locked(home / "lock")


def holder(home: Path) -> str:
    """Names the process that has the home's lock, for people."""
    try:
        return f"process {json.loads(read_plain(home / 'lock'))['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "process unknown"
