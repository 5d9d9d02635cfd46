"""Verification of versions: every byte as it was published, by the holder of the key.

Reads only, needs no lock. `bnpipe versions verify` shows what it finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bnpipe.data.digest import FileDigest, digest_of_files
from bnpipe.data.plain_file import read_plain
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests
from bnpipe.serving.folder import ledger
from bnpipe.serving.folder.bundle import BundleError
from bnpipe.serving.folder.ledger import Entry, History
from bnpipe.serving.folder.manifest import manifest_path, provenance_text, signature_path
from bnpipe.serving.folder.signing import Verifier
from bnpipe.serving.folder.statements import Files, signed_files, signed_record
from bnpipe.serving.folder.versions import (
    PROVENANCE,
    complete_versions,
    version_path,
    wanted_config,
)

OK, UNSIGNED, BAD_SIGNATURE = "ok", "unsigned", "bad signature"
DAMAGED, UNKNOWN = "damaged", "not published by bnpipe"
_OLDER_SIGNATURE = 64
"""Bytes of an Ed25519 signature, which an older bnpipe made of the manifest."""


@dataclass(frozen=True)
class Verification:
    """The state of one version, byte by byte.

    Attributes:
        version: its number.
        status: `ok`, `unsigned`, `bad signature`, `damaged` or `not published by bnpipe`.
        detail: which file, and what is wrong with it; of what is `ok`, what might be signed anew.
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
    status, detail = _signed(base, entry, files, manifest, verifier)
    if status == BAD_SIGNATURE:
        return Verification(version, BAD_SIGNATURE, f"{detail}; {damage}".rstrip("; "), bad=True)
    if damage:
        return Verification(version, DAMAGED, damage, bad=True)
    return Verification(version, status, detail, bad=status != OK)


def _signed(
    base: Path, entry: Entry, files: Files, manifest: bytes | None, verifier: Verifier
) -> tuple[str, str]:
    """Status and detail of a version by its signatures."""
    path, anew = signature_path(base, entry.version), f"bnpipe versions sign {entry.version}"
    signature = _bytes(path)
    if not signature or manifest is None:
        return UNSIGNED, ""
    if len(signature) == _OLDER_SIGNATURE:
        older = f"{path} is {_OLDER_SIGNATURE} bytes, as an older bnpipe's Ed25519 signature"
        if entry.attestation:
            return BAD_SIGNATURE, f"{older}, but the ledger has a newer one; anew: {anew}"
        if verifier.accepts_older(manifest, signature):
            return OK, f"signed with Ed25519, by an older bnpipe; to sign it anew: {anew}"
        return BAD_SIGNATURE, f"{older}: name its public key in serving.verify_key too"
    try:
        listed = signed_files(verifier, signature, entry)
        path = path.with_suffix(".slsa")
        attestation = _bytes(path)
        record = signed_record(verifier, attestation, entry, listed) if attestation else ""
    except BundleError as error:
        return BAD_SIGNATURE, f"{path} {error}"
    if difference := _first_difference(listed, files):
        return DAMAGED, difference
    if not attestation:  # the tool's own bundles have none, and pass for any model of this number
        return UNSIGNED, f"{path} is missing: only its files are signed, not of which model; {anew}"
    damage = _provenance_damage(base, entry, record)
    return (DAMAGED if damage else OK), damage


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


def _damage(base: Path, entry: Entry, files: Files, manifest: bytes | None) -> str:
    """The first difference from the ledger or the manifest; empty if there is none."""
    if manifest is None:  # published before there were manifests: the ledger has one digest
        digest = digest_of_files(files)
        if digest == entry.digest:
            return ""
        return f"expected digest {entry.digest[:12]}, received {digest[:12]}"
    try:
        content = json.loads(manifest)
        listed = {path: FileDigest(**file).sha256 for path, file in content["files"].items()}
        recorded = str(content["provenance_sha256"])
        named = (content["version"], content["model_name"], content["digest"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{manifest_path(base, entry.version)} cannot be read"
    if named != (entry.version, entry.model_name, entry.digest):
        return f"{manifest_path(base, entry.version)} is of another version"
    return (
        _first_difference(listed, files)
        or _provenance_damage(base, entry, recorded)
        or ("" if digest_of_files(files) == entry.digest else "the ledger has another digest")
    )


def _first_difference(expected: Mapping[str, str], files: Files) -> str:
    """The first file whose sha256 differs, and how many more do."""
    received = {path: file.sha256 for path, file in files.items()}
    names = sorted(n for n in {*expected, *received} if expected.get(n) != received.get(n))
    if not names:
        return ""
    first, more = names[0], f" and {len(names) - 1} more" if names[1:] else ""
    if first not in received:
        return f"{first} is missing{more}"
    if first not in expected:
        return f"{first} was not published{more}"
    return f"{first}: expected sha256 {expected[first][:12]}, received {received[first][:12]}{more}"


def _provenance_damage(base: Path, entry: Entry, expected: str) -> str:
    path = base / PROVENANCE / f"{entry.version}.json"
    content = _bytes(path)
    if content is None:
        return f"{path} is missing"
    if hashlib.sha256(content).hexdigest() != expected:
        return f"{path} is not what was published"
    return "" if content == provenance_text(entry) else "the ledger has another provenance"


def _bytes(path: Path) -> bytes | None:
    try:
        return read_plain(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ServingError(f"cannot read {path}: {error.strerror}") from error
