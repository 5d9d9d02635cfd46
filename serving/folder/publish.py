"""Adding versions to a served folder and removing old ones; `folder.labels` moves labels.

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bnpipe.data.digest import digest_of_files
from bnpipe.data.durable import STAGING, copy_tree, remove, scratch_name
from bnpipe.data.json_text import json_text
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import file_digests, tree_digest
from bnpipe.serving.folder import ledger
from bnpipe.serving.folder.admission import (
    check_identity,
    check_not_withdrawn,
    is_intact,
    require_same,
)
from bnpipe.serving.folder.ledger import Entry, History
from bnpipe.serving.folder.names import check_model_name
from bnpipe.serving.folder.settle import discard, settle, writing
from bnpipe.serving.folder.signing import Signer
from bnpipe.serving.folder.statements import sign as sign_statements
from bnpipe.serving.folder.verify import (
    BAD_SIGNATURE,
    OK,
    UNSIGNED,
    require_whole,
    verify_version,
)
from bnpipe.serving.folder.versions import (
    check_version,
    complete_versions,
    is_saved_model,
    live,
    next_version,
    stable_version,
    trial_version,
    version_path,
    waiting_version,
    wanted_config,
)


@dataclass(frozen=True)
class Published:
    """A version that was published.

    Attributes:
        version: its number.
        path: its folder.
        digest: of its SavedModel.
        new: False if this digest was live already.
        signed: True if that one was signed now, where it lies.
        live: False while servers are to load it first (`folder.rollout`).
    """

    version: int
    path: Path
    digest: str
    new: bool
    live: bool = True
    signed: bool = False


def publish(
    base: Path,
    saved_model_dir: Path,
    *,
    model_name: str,
    provenance: Mapping[str, Any],
    compared_with: int | None,
    force: str | None = None,
    expected: str | None = None,
    hold: bool = False,
    signer: Signer | None = None,
) -> Published:
    """Make a SavedModel the live version, under a number that was never used before.

    The bytes are staged beside the versions, made durable and verified, and appear in one rename:
    no reader ever sees a part of a version. Killed at any point, the old version stays live and
    the next call finishes or clears away. A server that already runs on models.config needs the
    new version listed before `stable` moves (see `folder.model_config`): that is what `hold` is
    for. One that starts later, or that follows the highest number, does not.

    Args:
        base: the served folder; made if it does not exist.
        saved_model_dir: the SavedModel to copy.
        model_name: the name it is served under; the same for all versions of a folder.
        provenance: recorded beside the version, plain JSON. Its `dataset` object decides whether
            the folder may take the model: all versions must have the same `IDENTITY`.
        compared_with: the version that was the champion in its evaluation.
        force: the reason for publishing although the digest was withdrawn.
        expected: the digest that was blessed; None accepts what the folder holds.
        hold: only list it, if another version is live; `promote` makes it live.
        signer: signs the version and its provenance; also where it lies, if it is live already.

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
    require_same(expected or digest, digest, f"the model in {saved_model_dir}")
    # What is compared with the ledger must be what the ledger will give back.
    recorded = json.loads(json_text(dict(provenance)))
    with writing(base) as folder:
        history = settle(folder)
        check_identity(folder, history, model_name, recorded)
        check_not_withdrawn(history, digest, force)
        now = live(folder)
        waiting = waiting_version(folder, history) or trial_version(folder, history)
        if now is not None and is_intact(folder, history, now, digest):
            signed = signer is not None and _sign(folder, history, now, signer)
            return Published(now, version_path(folder, now), digest, new=False, signed=signed)
        hold = hold and now is not None
        if waiting is not None and _goes_on(folder, history, waiting, digest, signer):
            version = waiting
        else:
            version = next_version(folder, history)
            entry = Entry(version, digest, model_name, compared_with, recorded, force, hold)
            _put_in_place(folder, saved_model_dir, entry, signer)
            settle(folder)
        if signer is not None:
            require_whole(folder, version, signer.verifier)
        if version == waiting and not hold:
            ledger.append(folder, "promoted", waiting, label="stable")
            settle(folder)
        return Published(version, version_path(folder, version), digest, new=True, live=not hold)


def sign(base: Path, version: int, signer: Signer) -> bool:
    """Sign a version where it lies, live or not; False if the key has signed it before.

    Whoever asks for that vouches for its bytes: that they are those of the ledger is all that is
    checked, so nothing does it by itself.

    Raises:
        ServingError: the version is not there, damaged, or not published by bnpipe.
    """
    with writing(base, create=False) as folder:
        history = settle(folder)
        check_version(folder, version, history)
        return _sign(folder, history, version, signer)


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
            ledger.append(folder, "removed", version)
            discard(folder, version)
        settle(folder)
        return removed


def _goes_on(
    folder: Path, history: History, version: int, digest: str, signer: Signer | None
) -> bool:
    """True if a version that is not live yet is this model; with a key, signed by it."""
    if not is_intact(folder, history, version, digest):
        return False
    return signer is None or not verify_version(folder, history, version, signer.verifier).bad


def _sign(folder: Path, history: History, version: int, signer: Signer) -> bool:
    """Sign a version whose bytes are those of the model; False if the key has signed it before.

    Raises:
        ServingError: it was not published by bnpipe, or its records are damaged.
    """
    checked = verify_version(folder, history, version, signer.verifier)
    if checked.status == OK and not checked.detail:
        return False
    entry = history.entries.get(version)
    if entry is not None and checked.status in (OK, UNSIGNED, BAD_SIGNATURE):
        files = file_digests(version_path(folder, version))
        require_same(entry.digest, digest_of_files(files), f"v{version} in {folder}")
        bundles = sign_statements(signer, entry, files)
        ledger.append(folder, "signed", version, **bundles)
        settle(folder)
    require_whole(folder, version, signer.verifier)
    return True


def _put_in_place(folder: Path, saved_model_dir: Path, entry: Entry, signer: Signer | None) -> None:
    """Stage, verify, sign, take the number, rename."""
    staged = folder / scratch_name(STAGING)
    try:
        copy_tree(saved_model_dir, staged)
        files = file_digests(staged)
        require_same(entry.digest, digest_of_files(files), "the staged copy")
        if signer is not None:
            entry = replace(entry, **sign_statements(signer, entry, files))
        ledger.append(folder, "reserved", **vars(entry))
        os.rename(staged, version_path(folder, entry.version))
    except BaseException:
        with contextlib.suppress(OSError):
            remove(staged)
        raise
