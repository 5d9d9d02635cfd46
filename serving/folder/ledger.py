"""The ledger of a served folder: every number that was ever used, and what became of it.

`ledger.jsonl` is append-only JSON lines, each made durable before anything depends on it. It is
the truth; labels, `models.config` and the files in `provenance/` are made from it.

Events: `reserved` (a number is taken, with all that is known about the model), `published` (its
folder is in place and `stable` names it), `listed` (servers are to load a version, and a label
goes there once they have), `abandoned` (its folder never came), `signed` (a version gets another
signature), `rolled_back` (the live version's digest is withdrawn and `stable` goes to another
version), `withdrawn`, `promoted` (a label moves; with `bake`, the version is watched afterwards),
`baked` (that has ended well), `removed` (by retention).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bnpipe.data.durable import fsync, write_all
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain
from bnpipe.serving.errors import ServingError

LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Entry:
    """All that was known of a version when its number was taken.

    Attributes:
        version: the number.
        digest: `tree_digest` of its SavedModel.
        model_name: the name under which it is served.
        compared_with: the version that was live when it was evaluated; None if there was none.
        provenance: data, code, lock, config, metrics and run that it came from.
        force: why a withdrawn digest was published again; None for a plain push.
        hold: whether it is only listed at first, because a running server must load it before
            `stable` names it.
        signature: the bundle of its files (an older one, of its manifest: base64); None if it was
            not signed.
        attestation: the bundle of where it came from, if that was signed.
    """

    version: int
    digest: str
    model_name: str
    compared_with: int | None
    provenance: Mapping[str, Any]
    force: str | None = None
    hold: bool = False
    signature: str | None = None
    attestation: str | None = None


@dataclass(frozen=True)
class Listed:
    """A version that servers are to load before a label moves there.

    Attributes:
        version: the version.
        purpose: what it was listed for: `push`, `rollback` or `promote`.
    """

    version: int
    purpose: str


@dataclass(frozen=True)
class Withdrawal:
    """The reason for which a digest must not come back by itself."""

    version: int
    reason: str


@dataclass
class History:
    """The ledger, read from its first line to its last.

    Attributes:
        entries: published versions, by number; retention does not take them out.
        pending: a number that was taken and neither published nor abandoned yet.
        times: when each number was taken.
        withdrawn: by digest.
        labels: version by label, `stable` and `canary`.
        lived: versions that `stable` named one after the other, the live one last; a rollback goes
            back in them.
        listed: what servers are to load although no label names it yet.
        baking: the stable version, while it is to be watched.
        signed: versions whose signature came after them.
        removed: versions that retention deleted; one whose folder is still there was not.
        largest: the largest number ever used, 0 if there is none.
        last: the last event's name, empty if there is none.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    pending: Entry | None = None
    times: dict[int, datetime] = field(default_factory=dict)
    withdrawn: dict[str, Withdrawal] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    lived: list[int] = field(default_factory=list)
    listed: Listed | None = None
    baking: int | None = None
    signed: set[int] = field(default_factory=set)
    removed: set[int] = field(default_factory=set)
    largest: int = 0
    last: str = ""

    def entry(self, version: int) -> Entry | None:
        """The record of a version, published or about to be."""
        if self.pending is not None and self.pending.version == version:
            return self.pending
        return self.entries.get(version)

    def newest(self) -> Entry | None:
        """The published version with the highest number."""
        return self.entries[max(self.entries)] if self.entries else None

    def apply(self, line: Mapping[str, Any]) -> None:
        """Take in one event.

        Raises:
            KeyError: an event of this name is not known, or lacks a field.
        """
        event, version = line["event"], int(line["version"])
        match event:
            case "reserved":
                fields = ("digest", "model_name", "compared_with", "provenance", "force")
                later = ("hold", "signature", "attestation")
                given = [*fields, *(name for name in later if name in line)]
                self.pending = Entry(version, **{name: line[name] for name in given})
                self.times[version] = datetime.fromisoformat(line["at"])
            case "published":
                self._take_in(version)
                self.labels["stable"] = version
            case "listed":
                if self.pending is not None:
                    self._take_in(version)
                self.listed = Listed(version, line["purpose"])
            case "signed":
                bundles = {"signature": line["signature"], "attestation": line.get("attestation")}
                self.entries[version] = replace(self.entries[version], **bundles)
                self.signed.add(version)
            case "abandoned":
                self.pending = None
            case "withdrawn" | "rolled_back":
                self.withdrawn[line["digest"]] = Withdrawal(version, line["reason"])
                self.labels = {label: v for label, v in self.labels.items() if v != version}
                if event == "rolled_back":
                    self.labels["stable"] = int(line["to"])
            case "promoted":
                self.labels[line["label"]] = version
            case "baked":
                pass  # see `_unlist`
            case "removed":
                self.removed.add(version)
            case _:
                raise KeyError(event)
        self._unlist(event, version, line)
        self.largest = max(self.largest, version)
        self.last = event

    def _unlist(self, event: str, version: int, line: Mapping[str, Any]) -> None:
        """Nobody waits for a listed version once it has a label, is gone, or `stable` moved."""
        moved = event in ("published", "rolled_back") or line.get("label") == "stable"
        about = event in ("withdrawn", "promoted", "removed")
        if moved or (about and self.listed is not None and self.listed.version == version):
            self.listed = None
        if moved:
            now = self.labels["stable"]
            self.lived = [*itertools.takewhile(lambda v: v != now, self.lived), now]
        if moved or event == "baked":
            self.baking = version if line.get("bake") else None

    def _take_in(self, version: int) -> None:
        if self.pending is None or self.pending.version != version:
            raise KeyError(f"version {version} was never reserved")
        if self.pending.force is not None:
            self.withdrawn.pop(self.pending.digest, None)
        self.entries[version] = self.pending
        self.pending = None


def read(base: Path) -> History:
    """Read the ledger of a served folder; a folder without one has an empty history.

    Raises:
        ServingError: see `whole_lines` and `parse`.
    """
    return parse(whole_lines(base), str(base / LEDGER))


def whole_lines(base: Path) -> bytes:
    """The ledger's bytes up to the last newline; empty for a folder without a ledger.

    A last line without its newline is the trace of a killed writer: what it says was never
    promised to anyone, so it is passed over.

    Raises:
        ServingError: the ledger cannot be read, or is missing beside versions that it once listed.
    """
    path = base / LEDGER
    try:
        if not path.exists():
            _refuse_lost_ledger(base)
            return b""
        content = read_plain(path)
    except OSError as error:
        raise ServingError(f"cannot read {path}: {error.strerror}") from error
    return content[: content.rfind(b"\n") + 1]


def parse(lines: bytes, where: str) -> History:
    """The history that whole lines tell; `where` they come from, for people.

    Raises:
        ServingError: a line is damaged, or was written by a newer bnpipe.
    """
    history = History()
    for number, text in enumerate(lines.split(b"\n")[:-1], start=1):
        try:
            history.apply(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise ServingError(
                f"{where} line {number}: expected an event of this bnpipe, received {text[:80]!r}",
                hint="restore it from a backup, or use the bnpipe that wrote it",
            ) from error
    return history


def append(base: Path, event: str, version: int, **fields: Any) -> None:
    """Add one event; it is durable on return, and not there at all when this raises.

    Raises:
        OSError: the disk is full, read-only or faulty.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    line = json_text({"event": event, "version": version, **fields, "at": now}) + "\n"
    descriptor = os.open(base / LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, line.encode())
            os.fsync(descriptor)
        except OSError:
            # After a failed fsync nobody knows what is on the disk: take the line back.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    fsync(base)


def repair(base: Path) -> None:
    """Cut off the torn last line that a killed writer left."""
    path, whole = base / LEDGER, len(whole_lines(base))
    if path.exists() and whole < path.stat().st_size:
        os.truncate(path, whole)
        fsync(path)


def _refuse_lost_ledger(base: Path) -> None:
    """A lost ledger would let withdrawn models come back: say so instead of starting afresh."""
    provenance, path = base / "provenance", base / LEDGER
    # Looked for once more, because another process may be making the first version just now.
    if provenance.is_dir() and any(provenance.iterdir()) and not path.exists():
        raise ServingError(
            f"{path} is missing, but provenance/ says that versions were published here",
            hint="restore it from a backup; to forget all withdrawals instead, remove provenance/",
        )
