"""Locks between processes: a flock of a file, which the kernel drops when its holder dies."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnpipe.data.plain_file import open_plain

# Seconds: between attempts during the first moment, and between those after it.
_MOMENT = 0.2
_OFTEN, _SELDOM = 0.005, 0.1


@contextmanager
def locked(path: Path, *, wait: float = _MOMENT) -> Iterator[int | None]:
    """Take the lock of a file.

    Args:
        path: the file, made if need be. It stays: unlinking it would let two processes hold locks
            on two inodes.
        wait: how long to wait for another holder, in seconds; a moment by default, because
            `is_locked` takes the lock for an instant to look.

    Yields:
        the file's descriptor, for reading and writing; None if the lock was not to be had.

    Raises:
        OSError: the file cannot be opened, or is none.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "expected a file for a lock", os.fspath(path))
        yield descriptor if _taken(descriptor, wait) else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """True while a process has the lock of a file; the file is not made, nor need it be ours."""
    try:
        with open_plain(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _taken(descriptor: int, wait: float) -> bool:
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited >= wait:
            return False
        time.sleep(_OFTEN if waited < _MOMENT else _SELDOM)
