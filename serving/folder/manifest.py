"""The manifest of a version: every file with its digest, and where the model came from.

    <base>/manifests/7.json   the manifest of version 7
    <base>/manifests/7.sig    the signature of its files, a bundle, if versions are signed
    <base>/manifests/7.slsa   the same of where it came from (`folder.statements`)

They lie beside the version, so that they are no part of what they speak of. A manifest follows from
the ledger and the version's bytes alone. What an older bnpipe signed has the Ed25519 signature of
the manifest, 64 bytes, in 7.sig, and no 7.slsa.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from bnpipe.data.digest import FileDigest
from bnpipe.data.durable import replace_bytes
from bnpipe.data.json_text import json_text
from bnpipe.serving.folder.ledger import Entry
from bnpipe.serving.folder.versions import PROVENANCE, provenance_json

MANIFESTS = "manifests"
KINDS = (".json", ".sig", ".slsa")
"""Endings of what is written there; anything else is somebody else's."""


def manifest_of(entry: Entry, files: Mapping[str, FileDigest]) -> bytes:
    """The bytes that are signed: JSON with its keys in order.

    Args:
        entry: what the ledger says of the version.
        files: its files, `fingerprint.pb` included.
    """
    content = {
        "format": 1,
        "model_name": entry.model_name,
        "version": entry.version,
        "digest": entry.digest,
        "provenance_sha256": hashlib.sha256(provenance_text(entry)).hexdigest(),
        "files": {path: asdict(file) for path, file in files.items()},
    }
    return (json_text(content, indent=1, sort_keys=True) + "\n").encode()


def provenance_text(entry: Entry) -> bytes:
    """The bytes of `provenance/<version>.json`."""
    return (json_text(provenance_json(entry), indent=2, sort_keys=True) + "\n").encode()


def write_records(base: Path, entry: Entry, files: Mapping[str, FileDigest]) -> None:
    """Write provenance, manifest and signatures of a version whose folder is in place."""
    for folder in (PROVENANCE, MANIFESTS):
        (base / folder).mkdir(exist_ok=True)
    provenance = base / PROVENANCE / f"{entry.version}.json"
    replace_bytes(provenance, provenance_text(entry), staging=base)
    replace_bytes(manifest_path(base, entry.version), manifest_of(entry, files), staging=base)
    for path, content in signatures_of(base, entry).items():
        replace_bytes(path, content, staging=base)


def signatures_of(base: Path, entry: Entry) -> dict[Path, bytes]:
    """A version's signatures as the ledger has them, by file; none if it was not signed."""
    texts = {
        signature_path(base, entry.version): entry.signature,
        attestation_path(base, entry.version): entry.attestation,
    }
    return {
        path: text.encode() if text.startswith("{") else base64.b64decode(text)
        for path, text in texts.items()
        if text is not None
    }


def manifest_path(base: Path, version: int) -> Path:
    """The file of a version's manifest."""
    return base / MANIFESTS / f"{version}.json"


def signature_path(base: Path, version: int) -> Path:
    """The file of a version's signature."""
    return base / MANIFESTS / f"{version}.sig"


def attestation_path(base: Path, version: int) -> Path:
    """The file in which a version's provenance is signed."""
    return base / MANIFESTS / f"{version}.slsa"
