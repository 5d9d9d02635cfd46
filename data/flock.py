"""Locks between processes: a flock of a file, which the kernel drops when its holder dies.

Between machines it holds where the file system carries it: on NFS v4 Linux asks the server for it,
which gives a lock to who can write the file, and a shared one to who can read it.
"""

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

MOMENT = 0.2
"""Seconds that somebody who only looks may keep a lock, at most."""
# Seconds between attempts: during the first moment, and after it.
_OFTEN, _SELDOM = 0.005, 0.1


@contextmanager
def locked(path: Path, *, wait: float = MOMENT, shared: bool = False) -> Iterator[int | None]:
    """Take the lock of a file.

    Args:
        path: the file, made if need be. It stays: unlinking it would let two processes hold locks
            on two inodes.
        wait: how long to wait for another holder, in seconds; a moment by default, because
            `is_locked` takes the lock for an instant to look.
        shared: hold it beside others who share it.

    Yields:
        the file's descriptor, for reading and writing; None if the lock was not to be had.

    Raises:
        OSError: the file cannot be opened, or is none.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "expected a file for a lock", os.fspath(path))
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        yield descriptor if _taken(descriptor, kind, wait) else None
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """True while a process has the lock of a file alone; it is not made, nor need it be ours."""
    try:
        with open_plain(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _taken(descriptor: int, kind: int, wait: float) -> bool:
    began = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            waited = time.monotonic() - began
        if waited >= wait:
            return False
        time.sleep(_OFTEN if waited < MOMENT else _SELDOM)
