"""The lock of a served folder, and the one function that brings the folder in line with its ledger.

Whatever a killed process left half done, the next one that takes the lock finishes or clears away.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bnpipe.data.digest import digest_of_files
from bnpipe.data.durable import STAGING, TRASH, fsync, make_folder, remove, scratch_name
from bnpipe.data.flock import locked
from bnpipe.data.plain_file import listed
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests
from bnpipe.serving.folder import ledger, model_config
from bnpipe.serving.folder.ledger import History
from bnpipe.serving.folder.manifest import KINDS, MANIFESTS, signatures_of, write_records
from bnpipe.serving.folder.names import parse_version
from bnpipe.serving.folder.versions import PROVENANCE, version_path, wanted_config

LOCK = ".lock"
LOCK_WAIT_SECONDS = 300.0

_HINTS = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some space and run again",
    errno.EROFS: "make the disk writable or publish to another folder",
    errno.EACCES: "get write access to it or publish to another folder",
    errno.EIO: "check the disk, then run again",
}


@contextlib.contextmanager
def writing(base: Path, *, create: bool = True, wait: float | None = None) -> Iterator[Path]:
    """Hold the lock of a served folder, after so many seconds at most; yields its real path.

    Raises:
        ServingError: somebody else holds it too long, or there is no such folder; and any fault of
            the disk while it is held, in one line.
    """
    try:
        folder, wait = _real_folder(base, create), LOCK_WAIT_SECONDS if wait is None else wait
        with locked(folder / LOCK, wait=wait) as descriptor:
            if descriptor is None:
                raise ServingError(
                    f"another process is publishing to {folder}: waited {wait:.0f} s for its lock",
                    hint=f"see who holds it: fuser {folder / LOCK}",
                )
            try:
                yield folder
            finally:
                _open_to_others(folder)
    except OSError as error:
        raise ServingError(
            f"cannot write to the served folder {base}: {error.strerror or error}"
            + (f" ({error.filename})" if error.filename else ""),
            hint=_HINTS.get(error.errno or 0, "what is live has not been harmed; run again"),
        ) from error


def _open_to_others(folder: Path) -> None:
    """Whatever the umask: everyone may read, and whoever may write to the folder may publish."""
    group = folder.stat().st_mode & 0o020
    for name in (LOCK, ledger.LEDGER, PROVENANCE, MANIFESTS):
        path = folder / name
        with contextlib.suppress(OSError):  # not there; another user's, who has seen to it
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode | (0o755 if path.is_dir() else 0o644) | group)


def _real_folder(base: Path, create: bool) -> Path:
    """Follow links once, so that a link which is switched meanwhile cannot split one publish."""
    folder = Path(os.path.realpath(base))
    if os.path.islink(base) and not folder.exists():
        raise ServingError(f"served folder {base} is a link to {folder}, which does not exist")
    if folder.exists() and not folder.is_dir():
        raise ServingError(f"served folder: expected a folder, received the file {base}")
    if not folder.exists():
        if not create:
            raise ServingError(f"there is no served folder {base}", hint="publish one: bnpipe run")
        make_folder(folder)
    return folder


def settle(folder: Path) -> History:
    """Bring the folder in line with its ledger, and clear away what killed processes left.

    Raises:
        ServingError: the ledger is damaged or lost, or a version cannot be read.
    """
    ledger.repair(folder)
    history = ledger.read(folder)
    for name in os.listdir(folder):
        if name.startswith((STAGING, TRASH)):
            remove(folder / name)
    if history.pending is not None:
        _settle_pending(folder, history.pending)
        history = ledger.read(folder)
    for version in history.signed:
        _settle_signature(folder, history.entries[version])
    _clear_manifests(folder, history)
    wanted = wanted_config(folder, history)
    if wanted is not None:
        model_config.write(folder, wanted)
    return history


def _settle_pending(folder: Path, entry: ledger.Entry) -> None:
    """Finish a publish whose folder is in place; give up the number of any other."""
    target = version_path(folder, entry.version)
    files = file_digests(target) if target.is_dir() else {}
    if files and digest_of_files(files) == entry.digest:
        fsync(folder)
        write_records(folder, entry, files)
        if entry.hold:
            ledger.append(folder, "listed", entry.version, purpose="push")
        else:
            ledger.append(folder, "published", entry.version)
        return
    if os.path.lexists(target):
        discard(folder, entry.version)
    ledger.append(folder, "abandoned", entry.version)


def _settle_signature(folder: Path, entry: ledger.Entry) -> None:
    """Write the records of a whole version whose signatures are not the ledger's."""
    target, signatures = version_path(folder, entry.version), signatures_of(folder, entry)
    if target.is_dir() and any(
        not path.is_file() or path.read_bytes() != text for path, text in signatures.items()
    ):
        files = file_digests(target)
        if digest_of_files(files) == entry.digest:
            write_records(folder, entry, files)


def _clear_manifests(folder: Path, history: History) -> None:
    """Remove what is said of the files of versions that retention deleted; the ledger has it."""
    for path in listed(folder / MANIFESTS):
        version = parse_version(path.stem)
        gone = version in history.removed and not version_path(folder, version).exists()
        if gone and path.suffix in KINDS and path.is_file():
            path.unlink()


def discard(folder: Path, version: int) -> None:
    """Take a version out of the servers' sight in one step, then delete it."""
    trash = folder / scratch_name(TRASH)
    os.rename(version_path(folder, version), trash)
    fsync(folder)
    remove(trash)
