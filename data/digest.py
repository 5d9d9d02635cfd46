"""Digests: of a file, and of a folder whose files are known. Standard library only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnpipe.data.plain_file import open_plain

UNDIGESTED = "fingerprint.pb"
"""TensorFlow writes a random UUID there; at the top of a SavedModel it does not count."""


def file_sha256(path: Path) -> str:
    """Digest (hex) of a file's bytes.

    Raises:
        OSError: it cannot be read, or is no plain file.
    """
    with open_plain(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class FileDigest:
    """Size and sha256 (hex) of a file."""

    size: int
    sha256: str


def digest_of_files(
    files: Mapping[str, FileDigest], *, without: str = UNDIGESTED, heading: str = ""
) -> str:
    """Digest of a folder: sha256 over the lines `path NUL size NUL sha256`, sorted.

    Args:
        files: by path below the folder.
        without: a file at its top that is left out.
        heading: a first line, which makes folders of another kind differ; none if empty.
    """
    lines = [f"{heading}\n"] if heading else []
    lines += sorted(
        f"{path}\0{file.size}\0{file.sha256}\n" for path, file in files.items() if path != without
    )
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
