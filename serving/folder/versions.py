"""The content of a served folder: its versions, those that are live, waiting or on trial.

    <base>/7/                  a SavedModel, complete from the instant its name appears
    <base>/models.config       versions and labels for TF Serving (`folder.model_config`)
    <base>/ledger.jsonl        every number ever used (`folder.ledger`)
    <base>/provenance/7.json   where version 7 came from, for people; the ledger has it too
    <base>/manifests/7.json    its files; 7.sig and 7.slsa are signed (`folder.manifest`)
    <base>/.lock               held while somebody publishes; several homes may use one folder
    <base>/.staging-*, .trash-*  unfinished work, removed by the next publish

Everything here only reads, needs no lock and works on a read-only disk: `plan` calls it.
`folder.standing` asks what a model would be there; `folder.publish` writes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import ledger, model_config
from bnpipe.serving.folder.ledger import History
from bnpipe.serving.folder.names import LARGEST_VERSION, parse_version

PROVENANCE = "provenance"


def version_path(base: Path, version: int) -> Path:
    """The folder of a version."""
    return base / str(version)


def complete_versions(base: Path) -> list[int]:
    """The versions that a server could load, ascending.

    Only canonical names count (`7`, not `007`), and only real folders.

    Raises:
        ServingError: the folder cannot be listed.
    """
    numbers = (parse_version(name) for name in _names(base))
    return sorted({n for n in numbers if n is not None and n > 0 and is_complete(base, n)})


def is_complete(base: Path, version: int) -> bool:
    """True if a version's folder holds a SavedModel.

    Raises:
        ServingError: it cannot be read.
    """
    return is_saved_model(version_path(base, version))


def is_saved_model(folder: Path) -> bool:
    """True if a real folder holds a graph and its variables.

    A server loads a graph without variables, takes the good version away, and fails every request.

    Raises:
        ServingError: it cannot be read.
    """
    try:
        return not folder.is_symlink() and all(
            (folder / name).is_file() for name in ("saved_model.pb", "variables/variables.index")
        )
    except OSError as error:
        raise ServingError(f"cannot read {error.filename or folder}: {error.strerror}") from error


def next_version(base: Path, history: History) -> int:
    """One more than the largest number ever used, by the ledger, a name here or a provenance file.

    Raises:
        ServingError: somebody used up the numbers.
    """
    records = (Path(name).stem for name in _names(base / PROVENANCE))
    numbers = (parse_version(name) for name in (*_names(base), *records))
    version = max(history.largest, *(n for n in numbers if n is not None), 0) + 1
    if version > LARGEST_VERSION:
        raise ServingError(
            f"{base}: no version number is left above {version - 1}",
            hint="remove the entry with that name, or publish to another folder",
        )
    return version


def live(base: Path) -> int | None:
    """The live version: the one that label `stable` names in models.config.

    Without a label that names a complete version: what `stable_version` says.
    """
    labelled = model_config.label(base, "stable")
    if labelled is not None and is_complete(base, labelled):
        return labelled
    return stable_version(base, ledger.read(base))


def stable_version(base: Path, history: History) -> int | None:
    """The version that `stable` should name, by the ledger and the folders.

    If its folder is gone: the good one that was live last; if none ever was by the ledger, the good
    one with the highest number. None if there is none.
    """
    stable = history.labels.get("stable")
    if stable is not None and is_complete(base, stable):
        return stable
    good = good_versions(base, history)
    return next((v for v in reversed(history.lived) if v in good), max(good, default=None))


def waiting(base: Path) -> int | None:
    """`waiting_version` by the ledger as it is now."""
    return waiting_version(base, ledger.read(base))


def waiting_version(base: Path, history: History) -> int | None:
    """The version that was pushed and becomes live once the running servers have loaded it."""
    listed, stable = history.listed, stable_version(base, history)
    if listed is None or listed.purpose != "push" or listed.version == stable:
        return None
    return listed.version if listed.version in good_versions(base, history) else None


def on_trial(base: Path) -> int | None:
    """`trial_version` by the ledger as it is now."""
    return trial_version(base, ledger.read(base))


def trial_version(base: Path, history: History) -> int | None:
    """The canary: the version that `canary` names, if it is newer than the live one."""
    canary, stable = history.labels.get("canary"), stable_version(base, history)
    if canary is None or stable is None or canary <= stable:
        return None
    return canary if canary in good_versions(base, history) else None


def baking(base: Path) -> int | None:
    """The live version, while it is to be watched beside the one before it."""
    history = ledger.read(base)
    return history.baking if history.baking == stable_version(base, history) else None


def version_before(base: Path, history: History, version: int) -> int | None:
    """The good version that was live before a live one: a rollback goes there by default.

    A canary that never was live is none, whatever its number. Versions that the ledger does not
    know were there before it, and served by their numbers.
    """
    digest, good = digest_of(base, history, version), good_versions(base, history)
    lived = list(itertools.takewhile(lambda v: v != version, history.lived))
    older = [v for v in good if v < version and v not in history.entries]
    known = (v for v in reversed([*older, *lived]) if v in good)
    return next((v for v in known if digest_of(base, history, v) != digest), None)


def good_versions(base: Path, history: History) -> list[int]:
    """The complete versions whose digest is not withdrawn, ascending."""
    return [
        v
        for v in complete_versions(base)
        if not history.withdrawn or digest_of(base, history, v) not in history.withdrawn
    ]


def digest_of(base: Path, history: History, version: int) -> str:
    """A version's digest: the recorded one, or that of its bytes if it was not published here."""
    entry = history.entry(version)
    return entry.digest if entry is not None else tree_digest(version_path(base, version))


def check_version(base: Path, version: int, history: History | None = None) -> str:
    """Compare a version's bytes with what was published; returns their digest.

    Raises:
        ServingError: they differ, or the version is not there.
    """
    history = history or ledger.read(base)
    if not version_path(base, version).exists():
        raise ServingError(f"v{version} is not in {base}", hint="list what is: bnpipe versions")
    received = tree_digest(version_path(base, version))
    expected = digest_of(base, history, version)
    if received != expected:
        raise ServingError(
            f"v{version} in {base} is damaged: expected digest {expected[:12]}, "
            f"received {received[:12]}",
            hint="go back to a version that is whole: bnpipe rollback",
        )
    return received


def provenance_of(base: Path, version: int) -> Mapping[str, Any]:
    """The origin of a version, as recorded when it was published.

    Raises:
        ServingError: it was not published here.
    """
    entry = ledger.read(base).entry(version)
    if entry is None:
        raise ServingError(f"{base} has no record of v{version}", hint="list them: bnpipe versions")
    return provenance_json(entry)


def provenance_json(entry: ledger.Entry) -> dict[str, Any]:
    """The content of `provenance/<version>.json`."""
    recorded = ("version", "model_name", "digest", "compared_with", "force")
    return {**entry.provenance, **{name: getattr(entry, name) for name in recorded}}


def wanted_config(base: Path, history: History) -> model_config.ModelConfig | None:
    """The models.config that should be there; None while nothing was published here.

    Listed are the labelled versions, what a label is to move to, and the good version that was live
    before the stable one: a rollback to a version that is still loaded takes effect at once.
    """
    newest, stable = history.newest(), stable_version(base, history)
    if newest is None or stable is None:
        return None
    good = good_versions(base, history)
    labels = {"stable": stable}
    canary = history.labels.get("canary")
    if canary in good:
        labels["canary"] = canary
    before = version_before(base, history, stable)
    versions = {*labels.values(), *([] if before is None else [before])}
    if history.listed is not None and history.listed.version in good:
        versions.add(history.listed.version)
    return model_config.ModelConfig(
        newest.model_name, os.path.realpath(base), tuple(sorted(versions)), labels
    )


def _names(folder: Path) -> list[str]:
    """The names in a folder; none if it does not exist."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ServingError(
            f"served folder: expected a readable folder, received {folder}: {error.strerror}"
        ) from error
