"""Durable file operations: what is visible is complete, what was promised survives a crash."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from pathlib import Path

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


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte; a nearly full disk may take only some of them at a time."""
    while data:
        data = data[os.write(descriptor, data) :]


def replace_text(path: Path, text: str, *, staging: Path) -> None:
    """`replace_bytes` for text."""
    replace_bytes(path, text.encode(), staging=staging)


def replace_bytes(path: Path, content: bytes, *, staging: Path) -> None:
    """Replace a file atomically and durably: a reader sees the old content or the new one.

    Args:
        path: the file.
        content: its new content.
        staging: a folder on the same file system; a killed process may leave a file with the
            staging prefix there.
    """
    temporary = staging / scratch_name(STAGING)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        try:
            write_all(descriptor, content)
            os.fchmod(descriptor, 0o644)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    fsync(path.parent)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder of plain files; every file and folder of the copy is durable on return.

    The copy is readable by everyone, because servers run as another user, and writable by its
    owner, because the source may be a read-only object of the store and the copy must be
    removable.
    """
    os.mkdir(target)
    with os.scandir(source) as entries:
        found = sorted(entries, key=lambda e: e.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), target / entry.name)
            continue
        copy = target / entry.name
        shutil.copyfile(entry.path, copy, follow_symlinks=False)
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
