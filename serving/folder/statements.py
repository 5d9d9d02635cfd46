"""What is stated and signed of a version: its files, and where they came from.

`manifests/7.sig` holds the first in a bundle, as OpenSSF Model Signing 1.0 has it, so that its tool
checks the version: `model_signing verify key 7 --signature manifests/7.sig --public_key KEY.pub`.
`manifests/7.slsa` holds the second, SLSA provenance 1.0. Both have the same subject: the version,
by the digest over its files' digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from bnpipe.data.digest import FileDigest
from bnpipe.serving.folder.bundle import STATEMENT, expect, reading, seal, unseal
from bnpipe.serving.folder.ledger import Entry
from bnpipe.serving.folder.manifest import provenance_text
from bnpipe.serving.folder.signing import Signer, Verifier

Files = Mapping[str, FileDigest]
Statement = dict[str, Any]

MODEL = "https://model_signing/signature/v1.0"
PROVENANCE = "https://slsa.dev/provenance/v1"
_METHOD = {"method": "files", "hash_type": "sha256"}
_OWN = "bnpipeSha256"
"""Digests of folders and configurations, sha256 over what this project lists of them."""


def sign(signer: Signer, entry: Entry, files: Files) -> dict[str, Any]:
    """The two bundles of a version, as `Entry` has them."""
    said = model_statement(entry, files), provenance_statement(entry, files)
    return dict(zip(("signature", "attestation"), (seal(signer, s) for s in said), strict=True))


def signed_files(verifier: Verifier, bundle: bytes, entry: Entry) -> dict[str, str]:
    """The sha256 (hex) by path of the files that a bundle states, which the tool may have made.

    Raises:
        BundleError: no key signed it, it is of another version, or states no such files.
    """
    stated = unseal(verifier, bundle, MODEL)
    with reading():
        (subject,), predicate = stated["subject"], stated["predicate"]
        if subject["name"] != str(entry.version):  # what the tool calls it
            expect("version", _name(entry), subject["name"])
        method, resources = predicate["serialization"], predicate["resources"]
        expect("serialization", _METHOD, {key: method[key] for key in _METHOD})
        files = {str(r["name"]): str(r["digest"]) for r in resources if r["algorithm"] == "sha256"}
        expect("number of files", len(files), len(resources))
        expect("digest", _root(files.values()), subject["digest"]["sha256"])
    return files


def signed_record(verifier: Verifier, bundle: bytes, entry: Entry, files: dict[str, str]) -> str:
    """The sha256 (hex) of the provenance record that a bundle states.

    Args:
        verifier: the keys.
        bundle: the bundle of the provenance.
        entry: what the ledger says of the version.
        files: `signed_files` of the version.

    Raises:
        BundleError: no key signed it, or it is not of the version with these files.
    """
    stated = unseal(verifier, bundle, PROVENANCE)
    with reading():
        expect("subject", [_subject(entry, files.values())], stated["subject"])
        made = stated["predicate"]["runDetails"]["byproducts"]
        (record,) = (each["digest"] for each in made if each["name"] == _record_name(entry))
        return str(record["sha256"])


def model_statement(entry: Entry, files: Files) -> Statement:
    """The files of a version."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digest}
        for name, digest in _in_order(files).items()
    ]
    predicate = {"serialization": {**_METHOD, "allow_symlinks": False}, "resources": resources}
    return _statement(MODEL, entry, files, predicate)


def provenance_statement(entry: Entry, files: Files) -> Statement:
    """Where a version came from; `provenance/<version>.json` is among it by its digest."""
    known = entry.provenance
    code, dataset = known.get("code", {}), known.get("dataset", {})
    versions = {k.removeprefix("version_"): v for k, v in code.items() if k.startswith("version_")}
    packages = {name: quote(v) for name, v in sorted(versions.items()) if v != "missing"}
    python = packages.pop("python", None)
    about = {key: dataset.get(key) for key in ("version", "splits")}
    sources = [
        *_resource("source", "gitCommit", code.get("git_commit"), dirty=code.get("git_dirty")),
        *_resource("code", _OWN, code.get("code_digest")),
        *_resource("requirements.lock", "sha256", code.get("lock_digest")),
        *_resource(f"dataset {dataset.get('name')}", _OWN, dataset.get("digest"), **about),
        *({"uri": f"pkg:pypi/{name}@{version}"} for name, version in packages.items()),
    ]
    record = hashlib.sha256(provenance_text(entry)).hexdigest()
    made = _resource(_record_name(entry), "sha256", record)
    for name, digest in known.get("inputs", {}).items():
        made += _resource(name, _OWN, digest)
    asked = {"configuration": {_OWN: code.get("config_digest")}, "force": entry.force}
    definition = {
        "buildType": "urn:bnpipe:train-evaluate-publish:v1",
        "externalParameters": {"model_name": entry.model_name, **asked},
        "internalParameters": {"compared_with": entry.compared_with, "python": python},
        "resolvedDependencies": sources,
    }
    run = {
        "builder": {"id": "urn:bnpipe:pipeline"},
        "metadata": {"invocationId": str(known.get("run", ""))},
        "byproducts": made,
    }
    predicate = {"buildDefinition": definition, "runDetails": run}
    return _statement(PROVENANCE, entry, files, predicate)


def _resource(name: str, algorithm: str, digest: str | None, **about: Any) -> list[dict[str, Any]]:
    """An in-toto ResourceDescriptor of what has a digest; nothing of what has none."""
    more = {"annotations": about} if about else {}
    return [{"name": name, "digest": {algorithm: digest}, **more}] if digest else []


def _statement(kind: str, entry: Entry, files: Files, predicate: dict[str, Any]) -> Statement:
    subject = _subject(entry, _in_order(files).values())
    return {"_type": STATEMENT, "subject": [subject], "predicateType": kind, "predicate": predicate}


def _subject(entry: Entry, digests: Iterable[str]) -> dict[str, Any]:
    """A version by its name and the digest of its files, given in the order of a bundle."""
    return {"name": _name(entry), "digest": {"sha256": _root(digests)}}


def _root(digests: Iterable[str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _name(entry: Entry) -> str:
    return f"{entry.model_name}/{entry.version}"


def _record_name(entry: Entry) -> str:
    return f"provenance/{entry.version}.json"


def _in_order(files: Files) -> dict[str, str]:
    """Folder by folder, as the tool sorts: `assets/x` comes before `assets.extra/x`."""
    return {name: files[name].sha256 for name in sorted(files, key=lambda name: name.split("/"))}
