"""The manifest of a version: every file with its digest, and where the model came from.

    <base>/manifests/7.json   the manifest of version 7
    <base>/manifests/7.sig    its Ed25519 signature, 64 bytes, if versions are signed

Both lie beside the version, so that they are no part of what they speak of. A manifest follows from
the ledger and the version's bytes alone; it can be checked without bnpipe:

    openssl pkeyutl -verify -rawin -pubin -inkey KEY.pub -in manifests/7.json \
      -sigfile manifests/7.sig
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
    """Write provenance, manifest and signature of a version whose folder is in place."""
    for folder in (PROVENANCE, MANIFESTS):
        (base / folder).mkdir(exist_ok=True)
    provenance = base / PROVENANCE / f"{entry.version}.json"
    replace_bytes(provenance, provenance_text(entry), staging=base)
    replace_bytes(manifest_path(base, entry.version), manifest_of(entry, files), staging=base)
    if entry.signature is not None:
        replace_bytes(signature_path(base, entry.version), signature_of(entry), staging=base)


def signature_of(entry: Entry) -> bytes:
    """A version's signature as the ledger has it; empty if it was not signed."""
    return base64.b64decode(entry.signature or "")


def manifest_path(base: Path, version: int) -> Path:
    """The file of a version's manifest."""
    return base / MANIFESTS / f"{version}.json"


def signature_path(base: Path, version: int) -> Path:
    """The file of a version's signature."""
    return base / MANIFESTS / f"{version}.sig"
