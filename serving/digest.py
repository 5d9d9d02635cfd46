"""The digest of a SavedModel: what makes two models the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from serving.errors import ServingError

UNDIGESTED = "fingerprint.pb"


def tree_digest(folder: Path) -> str:
    """Digest of a SavedModel's bytes: sha256 over the lines `path NUL size NUL sha256`, sorted.

    `fingerprint.pb` is left out: TensorFlow writes a random UUID there. Empty folders do not count.

    Raises:
        ServingError: the folder cannot be read, or holds something that is no plain file.
    """
    try:
        lines = sorted(
            f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0{_sha256(path)}\n"
            for path in _files(folder)
        )
    except OSError as error:
        raise ServingError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """The plain files below a SavedModel folder, without the one that differs every time."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise ServingError(f"{entry.path}: expected a plain file, found something else")
            elif entry.path != os.path.join(folder, UNDIGESTED):
                yield Path(entry.path)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
