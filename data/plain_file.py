"""Plain files, and what else may lie where one is expected. Standard library only."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


def kind_of(mode: int) -> str:
    """What lies there by its mode, e.g. `a folder`."""
    return _KINDS.get(stat.S_IFMT(mode), "something unknown")


def open_plain(path: Path | str) -> BufferedReader:
    """Opens a file for reading; of a pipe or a device, from which a reader waits, it says so.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        wrong = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(wrong, f"expected a file, received {kind_of(mode)}", os.fspath(path))
    return os.fdopen(descriptor, "rb")
