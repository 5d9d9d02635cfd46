"""The digest of a SavedModel: two models with the same one are the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bnpipe.data.digest import UNDIGESTED, FileDigest, digest_of_files, file_sha256
from bnpipe.serving.errors import ServingError


def tree_digest(folder: Path) -> str:
    """Digest of a SavedModel's bytes: sha256 over the lines `path NUL size NUL sha256`, sorted.

    `fingerprint.pb` is left out: TensorFlow writes a random UUID there. Empty folders do not count.

    Raises:
        ServingError: the folder cannot be read, or holds something that is no plain file.
    """
    return digest_of_files(file_digests(folder, without=UNDIGESTED))


def file_digests(folder: Path, *, without: str = "") -> dict[str, FileDigest]:
    """Every file below a folder, by its path there.

    Args:
        folder: the folder.
        without: a file at its top that is left out.

    Raises:
        ServingError: the folder cannot be read, or holds something that is no plain file.
    """
    try:
        return {
            path.relative_to(folder).as_posix(): FileDigest(path.stat().st_size, file_sha256(path))
            for path in _files(folder)
            if path != folder / without
        }
    except OSError as error:
        raise ServingError(f"cannot read {error.filename or folder}: {error.strerror}") from error


def _files(folder: Path) -> Iterator[Path]:
    """The plain files below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif not entry.is_file(follow_symlinks=False):
                raise ServingError(f"{entry.path}: expected a plain file, received something else")
            else:
                yield Path(entry.path)
