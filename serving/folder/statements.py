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

from bnpipe.data.digest import FileDigest
from bnpipe.serving.folder.bundle import expect, reading, seal, statement, unseal
from bnpipe.serving.folder.ledger import Entry
from bnpipe.serving.folder.signing import Signer, Verifier

MODEL = "https://model_signing/signature/v1.0"
PROVENANCE = "https://slsa.dev/provenance/v1"
_METHOD = {"method": "files", "hash_type": "sha256"}
_OWN = "bnpipeSha256"
"""Digests of folders and configurations, sha256 over what this project lists of them."""


def sign(
    signer: Signer, entry: Entry, files: Mapping[str, FileDigest], record: bytes
) -> dict[str, Any]:
    """The two bundles of a version, as `Entry` has them; arguments as `provenance_statement`."""
    return {
        "signature": seal(signer, model_statement(entry, files)),
        "attestation": seal(signer, provenance_statement(entry, files, record)),
    }


def signed_files(verifier: Verifier, bundle: bytes, entry: Entry) -> dict[str, str]:
    """The sha256 (hex) by path of the files that a bundle states, which the tool may have made.

    Raises:
        BundleError: no key signed it, it is of another version, or states no such files.
    """
    stated = unseal(verifier, bundle, MODEL)
    with reading():
        (subject,), predicate = stated["subject"], stated["predicate"]
        if subject["name"] not in (_name(entry), str(entry.version)):
            expect("version", _name(entry), subject["name"])
        for key, value in _METHOD.items():
            expect(key, value, predicate["serialization"][key])
        resources = predicate["resources"]
        files = {str(r["name"]): str(r["digest"]) for r in resources}
        expect("number of files", len(files), len(resources))
        expect("digest", root_digest(files.values()), subject["digest"]["sha256"])
        expect("algorithm", {"sha256"}, {r["algorithm"] for r in resources})
    return files


def signed_record(verifier: Verifier, bundle: bytes, entry: Entry, root: str) -> str:
    """The sha256 (hex) of the provenance record that a bundle states.

    Raises:
        BundleError: no key signed it, or it is not of the version whose files have this root.
    """
    stated = unseal(verifier, bundle, PROVENANCE)
    with reading():
        expect("subject", [_subject(entry, root)], stated["subject"])
        made = {
            each["name"]: each["digest"] for each in stated["predicate"]["runDetails"]["byproducts"]
        }
        return str(made[_record_name(entry)]["sha256"])


def root_digest(digests: Iterable[str]) -> str:
    """The digest of a version: sha256 (hex) over those of its files, in the order of a bundle."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def model_statement(entry: Entry, files: Mapping[str, FileDigest]) -> dict[str, Any]:
    """The files of a version."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": files[name].sha256}
        for name in _in_order(files)
    ]
    predicate = {"serialization": {**_METHOD, "allow_symlinks": False}, "resources": resources}
    return statement(MODEL, _subject(entry, _root(files)), predicate)


def provenance_statement(
    entry: Entry, files: Mapping[str, FileDigest], record: bytes
) -> dict[str, Any]:
    """Where a version came from.

    Args:
        entry: what the ledger says of it.
        files: its files.
        record: the bytes of `provenance/<version>.json`; their digest is stated.
    """
    known = entry.provenance
    code, dataset = known.get("code", {}), known.get("dataset", {})
    packages = {k.removeprefix("version_"): v for k, v in code.items() if "version_" in k}
    python = packages.pop("python", None)
    about = {key: dataset.get(key) for key in ("version", "splits")}
    sources = [
        *_resource("source", "gitCommit", code.get("git_commit"), dirty=code.get("git_dirty")),
        *_resource("code", _OWN, code.get("code_digest")),
        *_resource("requirements.lock", "sha256", code.get("lock_digest")),
        *_resource(f"dataset {dataset.get('name')}", _OWN, dataset.get("digest"), **about),
        *({"uri": f"pkg:pypi/{name}@{packages[name]}"} for name in sorted(packages)),
    ]
    made = [
        each for name, of in known.get("inputs", {}).items() for each in _resource(name, _OWN, of)
    ]
    made += _resource(_record_name(entry), "sha256", hashlib.sha256(record).hexdigest())
    predicate = {
        "buildDefinition": {
            "buildType": "urn:bnpipe:train-evaluate-publish:v1",
            "externalParameters": {
                "model_name": entry.model_name,
                "configuration": {_OWN: code.get("config_digest")},
                "force": entry.force,
            },
            "internalParameters": {"compared_with": entry.compared_with, "python": python},
            "resolvedDependencies": sources,
        },
        "runDetails": {
            "builder": {"id": "urn:bnpipe:pipeline"},
            "metadata": {"invocationId": str(known.get("run", ""))},
            "byproducts": made,
        },
    }
    return statement(PROVENANCE, _subject(entry, _root(files)), predicate)


def _resource(
    name: str, algorithm: str, digest: str | None, **annotations: Any
) -> list[dict[str, Any]]:
    """An in-toto ResourceDescriptor of what has a digest; nothing of what has none."""
    more = {"annotations": annotations} if annotations else {}
    return [{"name": name, "digest": {algorithm: digest}, **more}] if digest else []


def _subject(entry: Entry, root: str) -> dict[str, Any]:
    return {"name": _name(entry), "digest": {"sha256": root}}


def _name(entry: Entry) -> str:
    return f"{entry.model_name}/{entry.version}"


def _record_name(entry: Entry) -> str:
    return f"provenance/{entry.version}.json"


def _root(files: Mapping[str, FileDigest]) -> str:
    return root_digest(files[name].sha256 for name in _in_order(files))


def _in_order(files: Iterable[str]) -> list[str]:
    """Folder by folder, as the tool sorts: `assets/x` comes before `assets.extra/x`."""
    return sorted(files, key=lambda name: name.split("/"))
