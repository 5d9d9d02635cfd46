"""What an object of the store is: the kind and the files of an artifact, and their digest."""

from __future__ import annotations

import fnmatch
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from bnpipe.components.artifacts import Artifact, ArtifactError
from bnpipe.data.digest import FileDigest, digest_of_files, file_sha256
from bnpipe.data.plain_file import tree

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """One file of an object.

    Attributes:
        path: relative to the object, with forward slashes.
        size: in bytes.
        sha256: hex.
        records: number of records, for record files.
        digested: whether the file counts for the object's digest.
    """

    path: str
    size: int
    sha256: str
    records: int | None
    digested: bool


@dataclass(frozen=True)
class Manifest:
    """The kind and the files of an object."""

    kind: str
    files: tuple[FileEntry, ...]

    @classmethod
    def parse(cls, text: str | bytes) -> Manifest:
        """From the JSON of an object's `manifest.json`."""
        value = json.loads(text)
        return cls(value["kind"], tuple(FileEntry(**f) for f in value["files"]))

    @property
    def content(self) -> dict[str, Any]:
        """What `manifest.json` holds."""
        files = [asdict(f) for f in self.files]
        return {"kind": self.kind, "digest": self.digest, "files": files}

    @cached_property
    def digest(self) -> str:
        """The object's name: sha256 over kind, paths, sizes and contents."""
        return digest_of_files(self._digested(), without="", heading=self.kind)

    def subtree_digest(self, folder: str) -> str:
        """Digest of one folder inside the object, as `export.digest.tree_digest` computes it."""
        return digest_of_files(self._digested(f"{folder}/" if folder else ""))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(f.size for f in self.files)

    def _digested(self, prefix: str = "") -> dict[str, FileDigest]:
        return {
            f.path.removeprefix(prefix): FileDigest(f.size, f.sha256)
            for f in self.files
            if f.digested and f.path.startswith(prefix)
        }


def describe(artifact: Artifact) -> Manifest:
    """Hash an artifact's files.

    Raises:
        ArtifactError: something in it is neither a file nor a folder, or has the manifest's name.
    """
    folder = artifact.path
    paths = []
    for path in sorted(tree(folder)):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactError(f"{artifact.producer} holds {path.name}, which is not a plain file")
        if path.is_file():
            paths.append(path)
    if folder / MANIFEST in paths:
        raise ArtifactError(f"{artifact.producer} holds {MANIFEST}, a name that the store needs")
    counts = artifact.record_counts()
    # Hashing releases the GIL; two threads are worth it for the 200 MB of transformed MNIST.
    with ThreadPoolExecutor(2) as pool:
        hashes = list(pool.map(file_sha256, paths))
    entries = []
    for path, sha256 in zip(paths, hashes, strict=True):
        name = path.relative_to(folder).as_posix()
        digested = not any(fnmatch.fnmatch(name, pattern) for pattern in artifact.undigested)
        entries.append(FileEntry(name, path.stat().st_size, sha256, counts.get(name), digested))
    return Manifest(type(artifact).__name__, tuple(entries))
