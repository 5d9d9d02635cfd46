"""One run at a time per home."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bnpipe.data.durable import make_folder
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

    Its process stands in the file: `{"pid": 123, "host": "a"}`; a home may be on a shared disk.
    """
    make_folder(path.parent)  # others must get through the home to what is served in it
    with locked(path) as descriptor:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            process = {"pid": os.getpid(), "host": platform.node()}
            os.pwrite(descriptor, json_text(process).encode(), 0)
        yield descriptor is not None


def is_held(home: Path) -> bool:
    """True while a run is at work in this home."""
    return is_locked(home / "lock")


def holder(home: Path) -> str:
    """Names the process that has the home's lock, for people."""
    return "process {pid} on {host}".format(**{"pid": "unknown", "host": "?", **_process(home)})


def is_living(home: Path, pid: int | None) -> bool:
    """True while the run of a process is at work in this home; None stands for any process."""
    return is_held(home) and pid in (None, _process(home).get("pid"))


def _process(home: Path) -> dict[str, Any]:
    """The process that had the home's lock last."""
    try:
        return dict(json.loads(read_plain(home / "lock")))
    except (OSError, ValueError, TypeError):
        return {}
