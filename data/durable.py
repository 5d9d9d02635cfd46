"""Durable file operations: what is visible is complete, what was promised survives a crash."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from bnpipe.data.errors import ForeignFile
from bnpipe.data.plain_file import read_plain

STAGING = ".staging-"
TRASH = ".trash-"


def scratch_name(prefix: str) -> str:
    """A name that no version can have, for something that is not finished or on its way out."""
    return f"{prefix}{uuid.uuid4().hex}"


def fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte; a nearly full disk may take only some of them at a time.

    Raises:
        OSError: it took no more.
    """
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def replacing(path: Path, *, staging: Path | None = None, durable: bool = True) -> Iterator[int]:
    """Replace a file atomically: a reader sees the old content or the new one.

    Args:
        path: the file.
        staging: a folder on the same file system, where a killed process may leave a file with the
            staging prefix; the file's own by default.
        durable: whether the new content is to survive a loss of power. Without, what is left then
            may be neither the old content nor the new one.

    Yields:
        the descriptor of a new file, which takes the name when the block ends without an error.

    Raises:
        OSError: the file cannot be written; the old one is as it was.
    """
    temporary = (staging or path.parent) / scratch_name(STAGING)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            yield descriptor
            os.fchmod(descriptor, 0o644)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.replace(temporary, path)
        except OSError as error:  # it names the temporary file
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        fsync(path.parent)


def replace_text(
    path: Path, text: str, *, staging: Path | None = None, durable: bool = True
) -> None:
    """`replace_bytes` for text."""
    replace_bytes(path, text.encode(), staging=staging, durable=durable)


def replace_bytes(
    path: Path, content: bytes, *, staging: Path | None = None, durable: bool = True
) -> None:
    """Replace a file by this content; the arguments are those of `replacing`."""
    with replacing(path, staging=staging, durable=durable) as descriptor:
        write_all(descriptor, content)


def is_foreign(path: Path, ours: re.Pattern[str]) -> bool:
    """True if somebody else wrote a file: it holds something, and nowhere the mark of ours.

    What cannot be read, or is no file, is not ours either.
    """
    try:
        content = read_plain(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return bool(content.strip()) and ours.search(content.decode(errors="replace")) is None


def write_files(
    folder: Path, files: Mapping[str, str], ours: re.Pattern[str], *, force: bool
) -> None:
    """Write files below a folder, each atomically, readable by everyone like the folder.

    Args:
        folder: made if need be.
        files: text by path.
        ours: the mark of those that may be replaced.
        force: replace those of others too.

    Raises:
        ForeignFile: one of them is there and is not ours; nothing is written.
        OSError: the disk refuses.
    """
    for path in (folder / name for name in files):
        if not force and is_foreign(path, ours):
            raise ForeignFile(
                f"{path} was not written by bnpipe, and is left as it is",
                hint="name another folder by --output, or replace it by --force",
            )
    for name, text in files.items():
        make_folder((folder / name).parent)
        replace_text(folder / name, text)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; each that is new is durable and readable by everyone.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir()
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o755)
    except FileExistsError:  # somebody else was faster, or it is a file
        if not folder.is_dir():
            raise
    fsync(folder.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy a plain file's content, or a link as it is.

    Raises:
        OSError: it cannot be read or written; of a full disk it names what was written.
    """
    try:
        shutil.copyfile(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # it would name what was read
            error.filename, error.filename2 = str(target), None
        raise


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of plain files; every file and folder of the copy is durable on return.

    The copy is readable by everyone, because servers run as another user, and writable by its
    owner, because the source may be a read-only object of the store and the copy must be
    removable.

    Raises:
        OSError: the target exists, or something cannot be read or written; it names what.
    """
    os.mkdir(target)
    with os.scandir(source) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), target / entry.name)
            continue
        copy = target / entry.name
        copy_file(Path(entry.path), copy)
        os.chmod(copy, 0o644)
        fsync(copy)
    os.chmod(target, 0o755)
    fsync(target)


def remove(path: Path) -> None:
    """Remove a file or a folder with all it holds."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        os.unlink(path)
