"""Admission to a served folder: the model it belongs to, and bytes that nobody withdrew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnpipe.data.json_text import json_text
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder.ledger import History
from bnpipe.serving.folder.versions import digest_of, version_path

IDENTITY = ("name", "height", "width", "label_names")


def check_identity(
    folder: Path, history: History, model_name: str, provenance: Mapping[str, Any]
) -> None:
    """Refuse a model that the folder's clients could not use.

    Raises:
        ServingError: the folder's versions have another name, or come from other data.
    """
    newest = history.newest()
    if newest is None:
        return
    if newest.model_name != model_name:
        raise ServingError(
            f"{folder} serves the model {newest.model_name!r}, received {model_name!r}",
            hint="set serving.base_path to a folder of its own",
        )
    there, here = newest.provenance.get("dataset", {}), provenance.get("dataset", {})
    for key in IDENTITY:
        if there.get(key) != here.get(key):
            raise ServingError(
                f"{folder} serves {there.get('name')}: expected {key} "
                f"{_short(there.get(key))}, received {_short(here.get(key))}",
                hint="set serving.base_path to a folder of its own",
            )


def check_not_withdrawn(history: History, digest: str, force: str | None) -> None:
    """Refuse what was taken back, unless there is a reason.

    Raises:
        ServingError: the digest is withdrawn and there is no `force`.
    """
    withdrawal = history.withdrawn.get(digest)
    if withdrawal is not None and force is None:
        raise ServingError(
            f"held back: this model is v{withdrawal.version}, withdrawn: {withdrawal.reason}",
            hint="to publish it all the same: bnpipe push --force --reason WHY",
        )


def is_intact(folder: Path, history: History, version: int, digest: str) -> bool:
    """True if a version is this digest, on the disk as well as in the ledger."""
    recorded = digest_of(folder, history, version)
    return recorded == digest == tree_digest(version_path(folder, version))


def require_same(expected: str, received: str, what: str) -> None:
    """Refuse other bytes than the expected ones.

    Raises:
        ServingError: the digests differ.
    """
    if expected != received:
        raise ServingError(
            f"{what}: expected digest {expected[:12]}, received {received[:12]}", hint="run again"
        )


def _short(value: object) -> str:
    text = json_text(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
