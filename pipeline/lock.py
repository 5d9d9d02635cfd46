"""One run at a time per home: a flock that the kernel drops when the process dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnpipe.pipeline.errors import LockHeld


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
    # The file stays: unlinking it would let two processes hold locks on two inodes.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        mine = _taken(descriptor)
        if mine:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)
        yield mine
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    """Take the lock; a moment's patience, because `is_locked` takes it for an instant to look."""
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.005)
    return False


def is_held(home: Path) -> bool:
    """Whether a run is at work in this home."""
    return is_locked(home / "lock")


def is_locked(path: Path) -> bool:
    """Whether a process has the flock of a file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(home: Path) -> str:
    """Names the process that has the home's lock, for people."""
    try:
        return f"process {json.loads((home / 'lock').read_text())['pid']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "process unknown"
