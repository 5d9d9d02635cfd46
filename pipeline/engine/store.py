"""The store: immutable, content-addressed artifact folders, and what each step key gave.

    <home>/format                     the number of this layout
           objects/<aa>/<digest>/     an artifact's files and manifest.json
           steps/<key>.json           step cache: key -> output digests, facts, verdict
           runs/<id>/                 see engine.runs
           tmp/                       staging; emptied by a run that is alone when it begins
           scratch/<key>/             what a step keeps across a killed run (checkpoints)
           cache/                     prepared TFDS data, code digests: can be had again
           lock, locks/               see engine.lock

A commit stages, checks, hashes, fsyncs, renames, and only then writes the step record, so that a
kill at any moment leaves either the old state or the new one.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnpipe.components.artifacts import Artifact, Verdict
from bnpipe.data.digest import file_sha256
from bnpipe.data.durable import STAGING, fsync, replace_text, scratch_name
from bnpipe.data.plain_file import listed, read_plain
from bnpipe.pipeline.engine.errors import ConfigError, StoreError
from bnpipe.pipeline.engine.files import remove_tree, write_json
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.engine.manifest import MANIFEST, Manifest, describe

FOLDERS = ("cache", "locks", "objects", "runs", "scratch", "steps", "tmp")
FORMAT = 1


@dataclass(frozen=True)
class StepRecord:
    """The result of a step key."""

    key: str
    name: str
    component: str
    outputs: Mapping[str, str]
    facts: Mapping[str, Any]
    verdict: Verdict | None
    parts: Mapping[str, Any]
    run: str
    seconds: float
    finished: float

    @classmethod
    def parse(cls, text: str | bytes) -> StepRecord:
        """From the JSON of `steps/<key>.json`."""
        value = json.loads(text)
        if value["verdict"] is not None:
            value["verdict"] = Verdict(**value["verdict"])
        return cls(**value)


class Store:
    """One home's store.

    Args:
        home: the folder; made when something is first written.

    Raises:
        StoreError: the folder was written by a newer bnpipe, or is not a store.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        for folder in (self.home, *(self.home / name for name in FOLDERS)):
            if os.path.lexists(folder) and not folder.is_dir():
                raise StoreError(
                    f"{folder}: expected a folder, received something else",
                    hint="remove it, or point BNPIPE_HOME at another folder",
                )
        marker = self.home / "format"
        if marker.exists():
            number = read_plain(marker).decode(errors="replace").strip()
            if not (number.isascii() and number.isdecimal()) or int(number) > FORMAT:
                raise StoreError(
                    f"{self.home} has store format {number!r}, this bnpipe knows up to {FORMAT}",
                    hint="upgrade bnpipe, or point BNPIPE_HOME at another folder",
                )

    @property
    def cache(self) -> Path:
        """The folder of what can be had again from outside."""
        return self.home / "cache"

    @property
    def runs(self) -> Path:
        """The folder of all run folders."""
        return self.home / "runs"

    @property
    def locks(self) -> Path:
        """The folder of all locks but the home's own."""
        return self.home / "locks"

    @property
    def has_objects(self) -> bool:
        """True once a run has prepared this home."""
        return (self.home / "objects").is_dir()

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            ConfigError: the folder is no home, and has files where leftovers would be removed.
        """
        marker = self.home / "format"
        for folder in (self.home / "tmp", self.home / "scratch"):
            # The marker last: another run may be making this home, and using it already.
            if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
                raise ConfigError(
                    f"{folder} was not made by bnpipe, which would clear it: it is left as it is",
                    hint="point BNPIPE_HOME at a folder of its own",
                )
        for name in FOLDERS:
            (self.home / name).mkdir(parents=True, exist_ok=True)
        if not marker.exists():
            replace_text(marker, f"{FORMAT}\n")

    def clean(self) -> None:
        """Remove what killed runs left; the caller has the home alone."""
        for leftover in self._leftovers():
            remove_tree(leftover)

    def _leftovers(self) -> Iterator[Path]:
        """Leftovers of killed runs: staging, half-written files, locks, scratch of done steps."""
        yield from (self.home / "tmp").iterdir()
        yield from self.locks.glob("*/*")
        for folder in (".", "steps", "runs/*", "cache", "scratch/*"):
            yield from self.home.glob(f"{folder}/{STAGING}*")
        for scratch in (self.home / "scratch").iterdir():
            if self._record_file(scratch.name).exists() or not any(scratch.iterdir()):
                yield scratch

    def stage(self, run: str, step: str, attempt: int, field: str) -> Path:
        """A new, empty folder to build an artifact in.

        No two attempts share one: what a cluster goes on with after the first would get into it.
        """
        folder = self.home / "tmp" / f"{run}-{step}" / str(attempt) / field
        folder.mkdir(parents=True)
        return folder

    def unstage(self, run: str, step: str) -> None:
        """Remove what the attempts at a step staged and did not commit."""
        remove_tree(self.home / "tmp" / f"{run}-{step}")

    def unstage_run(self, run: str) -> None:
        """Remove what the steps of a run staged, which have been ended."""
        for folder in (self.home / "tmp").glob(f"{run}-*"):
            remove_tree(folder)

    def scratch(self, key: str) -> Path:
        """The folder that a step key keeps across killed runs."""
        return self.home / "scratch" / key

    def drop_scratch(self, key: str) -> None:
        """Remove what a key kept; its step has committed."""
        remove_tree(self.scratch(key))

    # Objects

    def object_path(self, digest: str) -> Path:
        """The folder of an object, whether or not it is there."""
        return self.home / "objects" / digest[:2] / digest

    def commit_object(self, artifact: Artifact) -> Manifest:
        """Move a staged, checked artifact into the store.

        Returns:
            its manifest; an intact object of the same digest is kept as it is.
        """
        staged = artifact.path
        manifest = describe(artifact)
        target = self.object_path(manifest.digest)
        while not self._has_intact(manifest.digest):
            write_json(staged / MANIFEST, manifest.content)
            _make_durable(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            fsync(target.parent.parent)  # the two letters may be new, and would go with the power
            try:
                staged.rename(target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    continue  # another run has made the same meanwhile
                raise
            fsync(target.parent)
            return manifest
        remove_tree(staged)
        return manifest

    def _has_intact(self, digest: str) -> bool:
        """Whether an object is there as it should be; a damaged one goes."""
        path = self.object_path(digest)
        if not path.exists():
            return False
        if not self.faults(digest, deep=True):
            return True
        # One at a time: what another run has put in its place meanwhile stays.
        with try_lock(self.locks / "objects" / digest, wait=math.inf):
            if path.exists() and self.faults(digest, deep=True):
                damaged = self.home / "tmp" / scratch_name(f"damaged-{digest}-")
                path.rename(damaged)  # out of sight in one step
                remove_tree(damaged)
        return path.exists()

    def manifest(self, digest: str) -> Manifest:
        """An object's manifest.

        Raises:
            StoreError: it is missing, or does not belong to the digest.
        """
        path = self.object_path(digest) / MANIFEST
        try:
            manifest = Manifest.parse(read_plain(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(digest, f"manifest.json cannot be read ({error})") from error
        if manifest.digest != digest:
            raise self._damaged(digest, f"manifest.json has digest {manifest.digest[:12]}")
        return manifest

    def faults(self, digest: str, *, deep: bool) -> list[str]:
        """The faults of an object, one line each.

        Args:
            digest: which object.
            deep: hash every file too, not only look for it and compare sizes.
        """
        try:
            manifest = self.manifest(digest)
        except StoreError as error:
            return [error.headline]
        folder = self.object_path(digest)
        faults: list[str] = []
        for entry in manifest.files:
            path = folder / entry.path
            size = path.stat().st_size if path.is_file() else None
            if size is None:
                faults.append(f"{entry.path} is missing")
            elif size != entry.size:
                faults.append(f"{entry.path} has {size} bytes, expected {entry.size}")
            elif deep and file_sha256(path) != entry.sha256:
                faults.append(f"{entry.path} has other bytes than were written")
        return faults

    def require(self, digest: str, *, deep: bool) -> Path:
        """An object's folder, after checking it.

        Raises:
            StoreError: it is damaged.
        """
        faults = self.faults(digest, deep=deep)
        if faults:
            raise self._damaged(digest, faults[0])
        return self.object_path(digest)

    def quarantine(self, digest: str) -> Path:
        """Move an object out of the way, keeping its bytes; returns where it went."""
        target = self.home / "quarantine" / digest
        target.parent.mkdir(exist_ok=True)
        remove_tree(target)
        self.object_path(digest).rename(target)
        return target

    def digests(self) -> Iterator[str]:
        """All objects."""
        for folder in listed(self.home / "objects"):
            if len(folder.name) == 2 and folder.is_dir():
                yield from (path.name for path in listed(folder))

    def _damaged(self, digest: str, what: str) -> StoreError:
        return StoreError(
            f"object {digest[:12]} in {self.home} is damaged: {what}",
            hint="`bnpipe gc --verify --yes` moves damaged objects aside, then run again",
        )

    # Step cache

    def lookup(self, key: str) -> StepRecord | None:
        """The record of a key, if it and all its objects are there.

        A missing object is a miss (it may have been collected).

        Raises:
            StoreError: an object is there and damaged.
        """
        path = self._record_file(key)
        try:
            record = StepRecord.parse(read_plain(path))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{path} cannot be read: {error}", hint=f"delete it and run again: rm {path}"
            ) from error
        if not all(self.object_path(d).is_dir() for d in record.outputs.values()):
            return None
        for digest in record.outputs.values():
            self.require(digest, deep=False)
        return record

    def commit_step(self, record: StepRecord) -> None:
        """Remember what a key gave; the newest success wins."""
        write_json(self._record_file(record.key), asdict(record))

    def forget_step(self, key: str) -> None:
        """Remove what is remembered of a key."""
        self._record_file(key).unlink(missing_ok=True)

    def record(self, key: str) -> StepRecord | None:
        """The record of a key, whatever became of its objects; None if it cannot be read."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            return StepRecord.parse(read_plain(self._record_file(key)))
        return None

    def _record_file(self, key: str) -> Path:
        return self.home / "steps" / f"{key}.json"

    def records(self) -> Iterator[StepRecord]:
        """All step records that can be read, newest first."""
        written: list[tuple[int, Path]] = []
        for path in listed(self.home / "steps"):
            with suppress(FileNotFoundError):  # gone meanwhile
                if path.suffix == ".json":
                    written.append((path.stat().st_mtime_ns, path))
        for _, path in sorted(written, reverse=True):
            with suppress(ValueError, TypeError, KeyError, FileNotFoundError):
                yield StepRecord.parse(read_plain(path))


def _make_durable(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent) / name
            path.chmod(0o444)  # immutable by intent; a stray editor is told so
            fsync(path)
        fsync(Path(parent))
