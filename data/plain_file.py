"""Files as they lie there: what may be in the place of one, what is in a folder. Stdlib only."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_HOLLOW = 1 << 30


def flaw(status: os.stat_result, path: Path | str) -> str:
    """What is there instead of a file with data, e.g. `a folder`; empty if it is one.

    A file of a gibibyte or more of which the disk holds less than a hundredth was never written to
    its end: to read its holes takes hours, or more memory than there is.
    """
    if not stat.S_ISREG(status.st_mode):
        return _KINDS.get(stat.S_IFMT(status.st_mode), "something unknown")
    # Mounts of object stores know no blocks: what is said by them is looked at.
    if status.st_size >= _HOLLOW and status.st_blocks * 512 < status.st_size // 100:
        stored = _stored(path)
        if stored < status.st_size // 100:
            return f"{status.st_size:,} bytes of which the disk holds {stored:,}"
    return ""


def _stored(path: Path | str) -> int:
    """The bytes of a file that are no hole."""
    stored = end = 0
    with open(path, "rb") as file, contextlib.suppress(OSError):  # ENXIO: there is no more data
        while True:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            stored += end - start
    return stored


def open_plain(path: Path | str) -> BufferedReader:
    """Opens a file for reading; of a pipe or a device, from which a reader waits, it says so.

    Raises:
        OSError: it cannot be opened, or is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if received := flaw(status, path):
        os.close(descriptor)
        wrong = errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.EINVAL
        raise OSError(wrong, f"expected a file with data, received {received}", os.fspath(path))
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path | str) -> bytes:
    """The bytes of a file; as `open_plain`."""
    with open_plain(path) as stream:
        return stream.read()


def listed(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing where there is none.

    `Path.glob` leaves out what it cannot list (since Python 3.12 whatever the reason): gc would
    take what only that names for garbage, and a trainer would train on a part.

    Raises:
        OSError: it cannot be listed.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def tree(folder: Path) -> Iterator[Path]:
    """All that is below a folder; links are not followed.

    Raises:
        OSError: a folder cannot be listed.
    """
    for path in listed(folder):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from tree(path)
