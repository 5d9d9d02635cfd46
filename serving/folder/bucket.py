"""An object store as the served folder needs it: uploads are read back, graphs go last.

Heavy: fsspec, and the package of the store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from bnpipe.data.durable import fsync
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests

GRAPH = "saved_model.pb"
_CHUNK = 1 << 20
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}


@dataclass(frozen=True)
class Bucket:
    """Objects below a URL. `fs` is fsspec's file system, `root` the URL's path there."""

    fs: Any
    root: str

    def path(self, name: str) -> str:
        """The object's path in `fs`."""
        return f"{self.root}/{name}" if name else self.root

    def names(self, folder: str = "") -> list[str]:
        """The names of objects and folders right below one."""
        try:
            paths = self.fs.ls(self.path(folder), detail=False)
        except FileNotFoundError:
            return []
        # Some stores list an empty object that stands for the folder itself.
        return sorted({PurePosixPath(p).name for p in paths} - {PurePosixPath(folder).name})

    def size(self, name: str) -> int | None:
        """Bytes of an object; None if there is none."""
        try:
            return int(self.fs.info(self.path(name))["size"])
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes:
        """An object's content."""
        content: bytes = self.fs.cat_file(self.path(name))
        return content

    def put(self, name: str, content: bytes) -> None:
        """Replace an object, unless it says the same already."""
        if self.size(name) != len(content) or self.read(name) != content:
            self.fs.pipe_file(self.path(name), content)

    def create(self, name: str, content: bytes, url: str) -> None:
        """Make an object that must not exist yet.

        Raises:
            ServingError: it exists.
        """
        try:
            self.fs.pipe_file(self.path(name), content, mode="create")
        except FileExistsError:
            raise overtaken(url) from None

    def remove(self, folder: str) -> None:
        """Delete a version, its graph first."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(f"{folder}/{GRAPH}"))
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path(folder), recursive=True)

    def ledger(self) -> bytes:
        """The ledger's bytes, which its objects hold one after the other.

        Raises:
            ServingError: an object is missing, or is none of the ledger.
        """
        lines = b""
        for name in self.names("ledger"):
            if name != f"{len(lines):012d}":
                raise ServingError(
                    f"{self.path('ledger')}: expected an object {len(lines):012d}, received {name}",
                    hint="restore the objects of ledger/ from a backup",
                )
            lines += self.read(f"ledger/{name}")
        return lines

    def upload(self, folder: Path, name: str) -> None:
        """Upload a folder's files that are not there yet, and read back what was sent.

        The graph goes last: with it a version is whole, and is not looked at again.

        Raises:
            ServingError: a file is read back as something else.
        """
        graph = folder / GRAPH
        if graph.is_file() and self.size(f"{name}/{GRAPH}") == graph.stat().st_size:
            return
        files = file_digests(folder)
        for path in sorted(files, key=lambda p: (p == GRAPH, not p.startswith("variables/"), p)):
            target = f"{name}/{path}"
            if self.size(target) == files[path].size and self.sha256(target) == files[path].sha256:
                continue
            self.fs.put_file(str(folder / path), self.path(target))
            received = self.sha256(target)
            if received != files[path].sha256:
                raise ServingError(
                    f"{self.path(target)}: expected sha256 {files[path].sha256[:12]} after the "
                    f"upload, received {received[:12]}",
                    hint="run again",
                )

    def sha256(self, name: str) -> str:
        """Digest (hex) of an object as it is read back."""
        digest = hashlib.sha256()
        with self.fs.open(self.path(name), "rb") as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
        return digest.hexdigest()

    def download(self, name: str, target: Path) -> None:
        """Copy a folder of the store to a new one here; every file is durable on return.

        Raises:
            ServingError: an object's name leads out of the folder.
        """
        target.mkdir()
        prefix = self.path(name)
        for path in sorted(self.fs.find(prefix)):
            below = PurePosixPath(path).relative_to(prefix)
            if ".." in below.parts:  # to a store that is a name like any other
                raise ServingError(f"{path}: expected an object below {prefix}")
            file = target / below
            file.parent.mkdir(parents=True, exist_ok=True)
            self.fs.get_file(path, str(file))
            file.chmod(0o644)  # servers are other users, whatever the umask is
            fsync(file)
        for folder, _, _ in os.walk(target, topdown=False):
            os.chmod(folder, 0o755)
            fsync(Path(folder))


@contextlib.contextmanager
def opened(url: str) -> Iterator[Bucket]:
    """The store of a URL.

    Raises:
        ServingError: whatever goes wrong there, in one line.
    """
    from fsspec.core import url_to_fs

    try:
        options = {"auto_mkdir": True} if url.startswith(("file:", "local:")) else {}
        fs, root = url_to_fs(url.rstrip("/"), **options)
        fs.invalidate_cache()  # others write there too
        yield Bucket(fs, root.rstrip("/"))
    except ServingError:
        raise
    except ImportError as error:
        raise _no_package(url, error) from error
    except Exception as error:  # every store has errors of its own
        lines = str(error).strip().splitlines()
        raise ServingError(
            f"object store {url}: {type(error).__name__}{f': {lines[0]}' if lines else ''}",
            hint="what is live there has not been harmed; run the same again to go on",
        ) from error


def require_package(url: str) -> None:
    """Look, without asking it anything, whether a store of this kind can be opened here.

    Raises:
        ServingError: its package is not installed, or nobody knows such a store.
    """
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(url.partition(":")[0])
    except (ImportError, ValueError) as error:
        raise _no_package(url, error) from error


def _no_package(url: str, error: Exception) -> ServingError:
    name = url.partition(":")[0]
    return ServingError(
        f"serving.base_path {url}: {name}:// needs a package that is not installed",
        hint=f"pip install {_PACKAGES[name]}" if name in _PACKAGES else str(error),
    )


def overtaken(url: str) -> ServingError:
    """Somebody else was first."""
    return ServingError(
        f"{url} has changes of another home", hint="take them over: bnpipe versions fetch"
    )
