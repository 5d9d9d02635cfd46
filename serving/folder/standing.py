"""The standing of a candidate in a served folder: published, held back, and compared with whom.

Like `folder.versions` it only reads and needs no lock: `plan` calls it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import ledger, model_config
from bnpipe.serving.folder.ledger import History
from bnpipe.serving.folder.signing import Verifier
from bnpipe.serving.folder.verify import BAD_SIGNATURE, OK, UNSIGNED, verify_version
from bnpipe.serving.folder.versions import (
    check_version,
    digest_of,
    is_complete,
    live,
    stable_version,
    trial_version,
    version_path,
    waiting_version,
    wanted_config,
)


@dataclass(frozen=True)
class Champion:
    """The version that a candidate is compared with."""

    version: int
    path: Path
    digest: str


@dataclass(frozen=True)
class Standing:
    """The effect that publishing a digest would have.

    Attributes:
        needed: whether there is something to do.
        sentence: `up to date (v3 live)`, `held back (v3 withdrawn: bad accuracy)` or `publish`.
    """

    needed: bool
    sentence: str


def state_of(base: Path, digest: str, verifier: Verifier | None = None) -> Standing:
    """The effect that publishing a SavedModel of this digest would have now.

    A digest that was published before, is not live and was not withdrawn either is published
    again under a new number: its way back to being live is forward.

    Args:
        base: the served folder.
        digest: `tree_digest` of the SavedModel.
        verifier: the key that it will be signed with, if it will: what is live unsigned, or signed
            with another one, is still to be signed.

    Raises:
        ServingError: the folder cannot be read.
    """
    version, history = _live_and_history(base)
    withdrawal = history.withdrawn.get(digest)
    if withdrawal is not None:
        sentence = f"held back (v{withdrawal.version} withdrawn: {withdrawal.reason})"
        return Standing(False, sentence)
    waiting = waiting_version(base, history)
    if waiting is not None and digest_of(base, history, waiting) == digest:
        return Standing(True, f"publish (v{waiting} waits until the server has loaded it)")
    trial = trial_version(base, history)
    if trial is not None and digest_of(base, history, trial) == digest:
        sentence = f"on trial (v{trial} is canary, v{version} live)"
        return _kept(base, history, trial, sentence, verifier)
    if version is None or digest_of(base, history, version) != digest:
        return Standing(True, "publish")
    return _kept(base, history, version, f"up to date (v{version} live)", verifier)


def champion(base: Path, candidate_digest: str | None) -> Champion | None:
    """The version to compare a candidate with; None if there is none.

    It is the live version. A candidate that is itself live, on trial or withdrawn is compared with
    the same version as when it was pushed, so that running again without a change changes nothing;
    None when there was no such version then, or it is gone.

    Args:
        base: the served folder; it need not exist.
        candidate_digest: `tree_digest` of the candidate, None while it is unknown.

    Raises:
        ServingError: the version's bytes are not those that were published.
    """
    version, history = _live_and_history(base)
    if candidate_digest is not None:
        withdrawal = history.withdrawn.get(candidate_digest)
        if withdrawal is not None:
            version = _compared_with(history, withdrawal.version)
        else:
            for known in (version, trial_version(base, history)):
                if known is not None and digest_of(base, history, known) == candidate_digest:
                    version = _compared_with(history, known)
                    break
    if version is None or not is_complete(base, version):
        return None
    digest = check_version(base, version, history)
    return Champion(version, version_path(base, version), digest)


def _kept(
    base: Path, history: History, version: int, sentence: str, verifier: Verifier | None
) -> Standing:
    """Nothing to do, if the version is whole and signed and models.config is as it should be."""
    if tree_digest(version_path(base, version)) != digest_of(base, history, version):
        return Standing(True, f"publish (the bytes of v{version} are damaged)")
    wanted = wanted_config(base, history)
    is_current = wanted is None or model_config.read_text(base) == wanted.render()
    if history.pending is not None or not is_current:
        return Standing(True, f"publish (finish v{version})")
    status = OK if verifier is None else verify_version(base, history, version, verifier).status
    if status in (UNSIGNED, BAD_SIGNATURE):
        if version == stable_version(base, history):
            return Standing(True, f"publish (sign v{version})")
        return Standing(True, f"publish (once more, signed: v{version} is {status})")
    if status != OK:
        return Standing(True, f"publish (v{version} is refused: {status})")
    return Standing(False, sentence)


def _live_and_history(base: Path) -> tuple[int | None, History]:
    """In this order, so that the ledger knows the version, whoever publishes meanwhile."""
    version = live(base)
    return version, ledger.read(base)


def _compared_with(history: History, version: int) -> int | None:
    entry = history.entry(version)
    return entry.compared_with if entry is not None else None
