"""Changing a served folder: publish, roll back, withdraw, promote, prune.

Every change is the same three moves under the folder's lock: write the intent to the ledger,
make it true, and `settle`, which brings folders, provenance files and models.config in line with
the ledger. `settle` also runs first, so whatever a killed process left half done is finished or
cleared away by the next one. Until models.config is replaced, the version that was live stays so.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import ledger, model_config
from serving.durable import STAGING, copy_tree, remove, scratch_name
from serving.errors import ServingError
from serving.ledger import Entry, History
from serving.names import check_model_name
from serving.settle import discard, settle, writing
from serving.versions import (
    check_version,
    complete_versions,
    digest_of,
    good_versions,
    is_complete,
    is_saved_model,
    live,
    next_version,
    stable_version,
    tree_digest,
    version_path,
    wanted_config,
)

IDENTITY = ("name", "height", "width", "label_names")


@dataclass(frozen=True)
class Published:
    """A version that is live.

    Attributes:
        version: its number.
        path: its folder.
        digest: of its SavedModel.
        new: False if this digest was live already.
    """

    version: int
    path: Path
    digest: str
    new: bool


def publish(
    base: Path,
    saved_model_dir: Path,
    *,
    model_name: str,
    provenance: Mapping[str, Any],
    compared_with: int | None,
    force: str | None = None,
    expected: str | None = None,
) -> Published:
    """Make a SavedModel the live version, under a number that was never used before.

    The bytes are staged beside the versions, made durable and verified, and appear in one rename:
    no reader ever sees a part of a version. Killed at any point, the old version stays live and
    the next call finishes or clears away. A server that already runs on models.config needs the
    new version listed before `stable` moves (see `serving.model_config`); one that starts later,
    or that follows the highest number, does not.

    Args:
        base: the served folder; made if it does not exist.
        saved_model_dir: the SavedModel to copy.
        model_name: the name it is served under; the same for all versions of a folder.
        provenance: recorded beside the version, plain JSON. Its `dataset` object decides whether
            the folder may take the model: all versions must have the same `IDENTITY`.
        compared_with: the version that was the champion in its evaluation.
        force: the reason for publishing although the digest was withdrawn.
        expected: the digest that was blessed; None accepts what the folder holds.

    Raises:
        ServingError: the bytes are not the expected ones, the folder belongs to another model or
            data set, the digest was withdrawn, the lock is held, or the disk refuses.
    """
    check_model_name(model_name)
    if not is_saved_model(saved_model_dir):
        raise ServingError(
            f"{saved_model_dir}: expected a SavedModel with saved_model.pb and variables"
        )
    digest = tree_digest(saved_model_dir)
    _require_same(expected or digest, digest, f"the model in {saved_model_dir}")
    # What is compared with the ledger must be what the ledger will give back.
    recorded = json.loads(json.dumps(dict(provenance)))
    with writing(base) as folder:
        history = settle(folder)
        _check_identity(folder, history, model_name, recorded)
        _check_not_withdrawn(history, digest, force)
        now = live(folder)
        if now is not None and _is_intact(folder, history, now, digest):
            return Published(now, version_path(folder, now), digest, new=False)
        version = next_version(folder, history)
        entry = Entry(version, digest, model_name, compared_with, recorded, force)
        _put_in_place(folder, saved_model_dir, entry)
        settle(folder)
        return Published(version, version_path(folder, version), digest, new=True)


def rollback(base: Path, *, reason: str, to: int | None = None) -> int:
    """Withdraw the live version's digest and make another version live; returns its number.

    The withdrawn digest does not come back by itself: a plain run says `held back`, and only
    `publish(force=...)` brings it back, under a new number. A rollback that a kill cut short is
    finished, not repeated; name the target to be sure of it. A running server needs one edit of
    models.config while the target is still listed there; else it loads the target first.

    Args:
        base: the served folder.
        reason: recorded with the withdrawn digest.
        to: the version to go to; None for the good one before the live version.

    Raises:
        ServingError: there is nothing to go back to, or `to` is withdrawn, damaged or not there.
    """
    with writing(base, create=False) as folder:
        before = model_config.label(folder, "stable")
        history = settle(folder)
        now = stable_version(folder, history)
        if now is None:
            raise ServingError(f"{folder} has no version to roll back")
        if now == to or (history.last == "rolled_back" and before not in (None, now)):
            return now
        digest = digest_of(folder, history, now)
        good = [
            v for v in good_versions(folder, history) if digest_of(folder, history, v) != digest
        ]
        target = to if to is not None else max((v for v in good if v < now), default=None)
        if target is None or target not in good:
            raise ServingError(
                f"{folder} cannot go back from v{now} to {f'v{to}' if to else 'an older version'}: "
                f"expected one of {_listed(good)}",
                hint="publish a good model instead: bnpipe run",
            )
        check_version(folder, target, history)
        ledger.append(folder, "rolled_back", now, digest=digest, to=target, reason=reason)
        settle(folder)
        return target


def withdraw(base: Path, version: int, *, reason: str) -> None:
    """Withdraw the digest of a version that is not live, e.g. of a canary that failed.

    Raises:
        ServingError: the version is live (that is a rollback) or not there.
    """
    with writing(base, create=False) as folder:
        history = settle(folder)
        if not is_complete(folder, version) and history.entry(version) is None:
            raise ServingError(
                f"{folder} has no v{version}: expected one of {_listed(complete_versions(folder))}"
            )
        digest, now = digest_of(folder, history, version), stable_version(folder, history)
        if now is not None and digest_of(folder, history, now) == digest:
            raise ServingError(f"v{now} is live", hint="withdraw it by: bnpipe rollback")
        ledger.append(folder, "withdrawn", version, digest=digest, reason=reason)
        settle(folder)


def promote(base: Path, version: int, *, label: str = "stable") -> None:
    """Move a label to a version.

    `stable` moves forward only: going back without withdrawing what was live would be undone by
    the next run. The version must be AVAILABLE on a running server before `stable` moves there
    (see `serving.model_config`); promoting it to `canary` first lists it.

    Raises:
        ServingError: the label is unknown, or the version is not there, damaged, withdrawn or, for
            `stable`, older than the live one.
    """
    if label not in model_config.LABELS:
        raise ServingError(f"label: expected stable or canary, received {label!r}")
    with writing(base, create=False) as folder:
        history = settle(folder)
        good = good_versions(folder, history)
        if version not in good:
            raise ServingError(
                f"{folder} cannot promote v{version}: expected one of {_listed(good)}",
                hint="a withdrawn model comes back by: bnpipe push --force --reason WHY",
            )
        now = stable_version(folder, history)
        if label == "stable" and now is not None and version < now:
            raise ServingError(
                f"v{version} is older than v{now}, which is live",
                hint=f"bnpipe rollback --to {version} --reason WHY",
            )
        check_version(folder, version, history)
        ledger.append(folder, "promoted", version, label=label)
        settle(folder)


def prune(base: Path, keep: int) -> list[int]:
    """Delete old versions; returns their numbers.

    Kept are the highest `keep` numbers, what models.config lists, and the version that the live
    one was compared with, so that its evaluation stays as it is. Versions that were not published
    here are not touched. A version leaves by rename first: a server that is just loading it sees
    all of it or nothing.

    Raises:
        ServingError: the disk refuses.
    """
    with writing(base, create=False) as folder:
        history = settle(folder)
        versions = complete_versions(folder)
        wanted, now = wanted_config(folder, history), stable_version(folder, history)
        kept = {*versions[-keep:], *(wanted.versions if wanted else ())}
        entry = history.entry(now) if now is not None else None
        if entry is not None and entry.compared_with is not None:
            kept.add(entry.compared_with)
        removed = [v for v in versions if v in history.entries and v not in kept]
        for version in removed:
            discard(folder, version)
            ledger.append(folder, "removed", version)
        return removed


def _put_in_place(folder: Path, saved_model_dir: Path, entry: Entry) -> None:
    """Stage, verify, take the number, rename."""
    staged = folder / scratch_name(STAGING)
    try:
        copy_tree(saved_model_dir, staged)
        _require_same(entry.digest, tree_digest(staged), "the staged copy")
        ledger.append(folder, "reserved", **vars(entry))
        os.rename(staged, version_path(folder, entry.version))
    except BaseException:
        with contextlib.suppress(OSError):
            remove(staged)
        raise


def _check_identity(
    folder: Path, history: History, model_name: str, provenance: Mapping[str, Any]
) -> None:
    """Refuse a model that the folder's clients could not use."""
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


def _check_not_withdrawn(history: History, digest: str, force: str | None) -> None:
    withdrawal = history.withdrawn.get(digest)
    if withdrawal is not None and force is None:
        raise ServingError(
            f"held back: this model is v{withdrawal.version}, withdrawn: {withdrawal.reason}",
            hint="to publish it all the same: bnpipe push --force --reason WHY",
        )


def _is_intact(folder: Path, history: History, version: int, digest: str) -> bool:
    """Whether a version is this digest, on the disk as well as in the ledger."""
    recorded = digest_of(folder, history, version)
    return recorded == digest == tree_digest(version_path(folder, version))


def _require_same(expected: str, found: str, what: str) -> None:
    if expected != found:
        raise ServingError(
            f"{what}: expected digest {expected[:12]}, received {found[:12]}", hint="run again"
        )


def _listed(versions: list[int]) -> str:
    return ", ".join(f"v{v}" for v in versions) or "no version"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
