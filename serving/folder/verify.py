"""Verification of versions: every byte as it was published, by the holder of the key.

Reads only, needs no lock. `bnpipe versions verify` shows what it finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.data.digest import FileDigest, digest_of_files
from bnpipe.data.plain_file import read_plain
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests
from bnpipe.serving.folder import ledger
from bnpipe.serving.folder.ledger import Entry, History
from bnpipe.serving.folder.manifest import manifest_path, signature_path
from bnpipe.serving.folder.signing import Verifier
from bnpipe.serving.folder.versions import (
    PROVENANCE,
    complete_versions,
    version_path,
    wanted_config,
)

OK, UNSIGNED, BAD_SIGNATURE = "ok", "unsigned", "bad signature"
DAMAGED, UNKNOWN = "damaged", "not published by bnpipe"


@dataclass(frozen=True)
class Verification:
    """The state of one version, byte by byte.

    Attributes:
        version: its number.
        status: `ok`, `unsigned`, `bad signature`, `damaged` or `not published by bnpipe`.
        detail: which file, and what is wrong with it; empty if nothing is.
        bad: whether it must not be served. Without a key, a version may be unsigned or unknown.
    """

    version: int
    status: str
    detail: str = ""
    bad: bool = False


def verify(base: Path, verifier: Verifier | None) -> list[Verification]:
    """Look at every byte of every version, the newest first.

    Args:
        base: the served folder.
        verifier: the key that all versions must be signed with; None looks at bytes only.

    Raises:
        ServingError: folder or ledger cannot be read.
    """
    history = ledger.read(base)
    wanted = wanted_config(base, history)
    listed = wanted.versions if wanted else ()
    known = [v for v in history.entries if version_path(base, v).is_dir()]
    numbers = sorted({*complete_versions(base), *known, *listed}, reverse=True)
    return [verify_version(base, history, number, verifier) for number in numbers]


def verify_version(
    base: Path, history: History, version: int, verifier: Verifier | None
) -> Verification:
    """Look at every byte of one version.

    Raises:
        ServingError: its manifest or provenance cannot be read.
    """
    entry = history.entry(version)
    if entry is None:
        return Verification(version, UNKNOWN, bad=verifier is not None)
    try:
        files = file_digests(version_path(base, version))
    except ServingError as error:
        return Verification(version, DAMAGED, error.headline, bad=True)
    manifest = _bytes(manifest_path(base, version))
    damage = _damage(base, entry, files, manifest)
    if verifier is None:
        return Verification(version, DAMAGED if damage else OK, damage, bad=bool(damage))
    signature = _bytes(signature_path(base, version))
    if manifest is not None and signature and not verifier.accepts(manifest, signature):
        where = f"{manifest_path(base, version)} was not signed by this key"
        return Verification(version, BAD_SIGNATURE, f"{where}; {damage}".rstrip("; "), bad=True)
    if damage:
        return Verification(version, DAMAGED, damage, bad=True)
    if manifest is None or not signature:
        return Verification(version, UNSIGNED, bad=True)
    return Verification(version, OK)


def require_whole(base: Path, version: int, verifier: Verifier | None) -> None:
    """Refuse a version that is not what was published, or not by the holder of the key.

    Raises:
        ServingError: it is not.
    """
    checked = verify_version(base, ledger.read(base), version, verifier)
    if checked.bad:
        raise ServingError(
            f"v{version} in {base} is refused: {checked.status}"
            + (f": {checked.detail}" if checked.detail else ""),
            hint=f"if its bytes are yours: bnpipe versions sign {version}"
            if checked.status == UNSIGNED
            else "see all of them: bnpipe versions verify",
        )


def _damage(
    base: Path, entry: Entry, files: Mapping[str, FileDigest], manifest: bytes | None
) -> str:
    """The first difference from the ledger or the manifest; empty if there is none."""
    if manifest is None:  # published before there were manifests: the ledger has one digest
        digest = digest_of_files(files)
        if digest == entry.digest:
            return ""
        return f"expected digest {entry.digest[:12]}, received {digest[:12]}"
    try:
        content = json.loads(manifest)
        listed = {path: FileDigest(**file) for path, file in content["files"].items()}
        named = (content["version"], content["model_name"], content["digest"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{manifest_path(base, entry.version)} cannot be read"
    if named != (entry.version, entry.model_name, entry.digest):
        return f"{manifest_path(base, entry.version)} is of another version"
    return (
        _first_difference(listed, files)
        or _provenance_damage(base, entry.version, content)
        or ("" if digest_of_files(files) == entry.digest else "the ledger has another digest")
    )


def _first_difference(
    expected: Mapping[str, FileDigest], received: Mapping[str, FileDigest]
) -> str:
    """The first file that differs, and how many more do."""
    names = sorted(n for n in {*expected, *received} if expected.get(n) != received.get(n))
    if not names:
        return ""
    first, more = names[0], f" and {len(names) - 1} more" if names[1:] else ""
    if first not in received:
        return f"{first} is missing{more}"
    if first not in expected:
        return f"{first} was not published{more}"
    return (
        f"{first}: expected sha256 {expected[first].sha256[:12]}, "
        f"received {received[first].sha256[:12]}{more}"
    )


def _provenance_damage(base: Path, version: int, manifest: Mapping[str, Any]) -> str:
    path = base / PROVENANCE / f"{version}.json"
    content = _bytes(path)
    if content is None:
        return f"{path} is missing"
    if hashlib.sha256(content).hexdigest() != manifest.get("provenance_sha256"):
        return f"{path} is not what was published"
    return ""


def _bytes(path: Path) -> bytes | None:
    try:
        return read_plain(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServingError(f"cannot read {path}: {error.strerror}") from error
