"""Moving the labels of a served folder: roll back, withdraw, promote; and listing for a move.

Every change is made as `folder.publish` says: intent to the ledger, then `settle`.
"""

from __future__ import annotations

from pathlib import Path

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, model_config
from bnpipe.serving.folder.ledger import History
from bnpipe.serving.folder.settle import settle, writing
from bnpipe.serving.folder.versions import (
    check_version,
    complete_versions,
    digest_of,
    good_versions,
    is_complete,
    stable_version,
    version_before,
    waiting_version,
)


def rollback(base: Path, *, reason: str, to: int | None = None) -> int:
    """Withdraw the live version's digest and make another version live; returns its number.

    The withdrawn digest does not come back by itself: a plain run says `held back`, and only
    `publish(force=...)` brings it back, under a new number. A rollback that a kill cut short is
    finished, not repeated; name the target to be sure of it. A running server needs one edit of
    models.config while the target is still listed there; else it must load the target first
    (`folder.rollout`). A version that waits to become live is withdrawn by naming the live one.

    Args:
        base: the served folder.
        reason: recorded with the withdrawn digest.
        to: the version to go to; None for the good one that was live before.

    Raises:
        ServingError: there is nothing to go back to, or `to` is withdrawn, damaged or not there.
    """
    with writing(base, create=False) as folder:
        before = model_config.label(folder, "stable")
        history = settle(folder)
        now = stable_version(folder, history)
        if now is None:
            raise ServingError(f"{folder} has no version to roll back")
        if _take_back_waiting(folder, history, now, to, reason):
            return now
        if now == to or _is_unfinished(history, before, now):
            return now
        target = _target(folder, history, now, to)
        check_version(folder, target, history)
        digest = digest_of(folder, history, now)
        ledger.append(folder, "rolled_back", now, digest=digest, to=target, reason=reason)
        settle(folder)
        return target


def rollback_target(base: Path, to: int | None) -> int:
    """The version that `rollback` would make live, without doing it.

    Raises:
        ServingError: there is nothing to go back to.
    """
    history, before = ledger.read(base), model_config.label(base, "stable")
    now = stable_version(base, history)
    if now is None:
        raise ServingError(f"{base} has no version to roll back")
    _refuse_waiting(base, history, now, to)
    done = now == to or _is_unfinished(history, before, now)
    return now if done else _target(base, history, now, to)


def list_version(base: Path, version: int, *, purpose: str) -> None:
    """Have running servers load a version, so that a label can move there.

    Args:
        base: the served folder.
        version: a complete version that is not withdrawn.
        purpose: `rollback` or `promote`.

    Raises:
        ServingError: the version is not there, damaged or withdrawn.
    """
    with writing(base, create=False) as folder:
        history = settle(folder)
        _require_good(folder, history, version)
        check_version(folder, version, history)
        ledger.append(folder, "listed", version, purpose=purpose)
        settle(folder)


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


def promote(base: Path, version: int, *, label: str = "stable", bake: bool = False) -> None:
    """Move a label to a version.

    `stable` moves forward only: going back without withdrawing what was live would be undone by
    the next run. The version must be AVAILABLE on a running server before `stable` moves there
    (see `folder.model_config`); promoting it to `canary` first lists it. With `bake` it is to be
    watched until `end_bake`, or until `stable` moves again.

    Raises:
        ServingError: the label is unknown, or the version is not there, damaged, withdrawn or, for
            `stable`, older than the live one.
    """
    with writing(base, create=False) as folder:
        history = settle(folder)
        _check_promotion(folder, history, version, label)
        check_version(folder, version, history)
        ledger.append(folder, "promoted", version, label=label, **({"bake": True} if bake else {}))
        settle(folder)


def end_bake(base: Path, version: int) -> None:
    """Write down that a promoted version was watched long enough.

    Raises:
        ServingError: the disk refuses.
    """
    with writing(base, create=False) as folder:
        if settle(folder).baking == version:
            ledger.append(folder, "baked", version)


def check_promotion(base: Path, version: int, label: str) -> None:
    """Refuse what `promote` would refuse, without promoting.

    Raises:
        ServingError: see there.
    """
    _check_promotion(base, ledger.read(base), version, label)


def _check_promotion(folder: Path, history: History, version: int, label: str) -> None:
    if label not in model_config.LABELS:
        raise ServingError(f"label: expected stable or canary, received {label!r}")
    _require_good(folder, history, version)
    now = stable_version(folder, history)
    if label == "stable" and now is not None and version < now:
        raise ServingError(
            f"v{version} is older than v{now}, which is live",
            hint=f"bnpipe rollback --to {version} --reason WHY",
        )


def _is_unfinished(history: History, before: int | None, now: int) -> bool:
    """True if the last change was a rollback that models.config does not show yet."""
    return history.last == "rolled_back" and before not in (None, now)


def _refuse_waiting(folder: Path, history: History, now: int, to: int | None) -> int | None:
    """The version that waits to become live; going back from there must be said."""
    waiting = waiting_version(folder, history)
    if waiting is not None and to is None:
        raise ServingError(
            f"v{waiting} waits until the server has loaded it; live is v{now}",
            hint=f"take v{waiting} back: bnpipe rollback --to {now} --reason WHY",
        )
    return waiting


def _take_back_waiting(
    folder: Path, history: History, now: int, to: int | None, reason: str
) -> bool:
    """True if the rollback was of a version that is not live yet, and is done."""
    waiting = _refuse_waiting(folder, history, now, to)
    if waiting is None or to != now:
        return False
    digest = digest_of(folder, history, waiting)
    ledger.append(folder, "withdrawn", waiting, digest=digest, reason=reason)
    settle(folder)
    return True


def _target(folder: Path, history: History, now: int, to: int | None) -> int:
    """The version to go back to."""
    if to is None and history.listed is not None and history.listed.purpose == "rollback":
        to = history.listed.version
    digest = digest_of(folder, history, now)
    good = [v for v in good_versions(folder, history) if digest_of(folder, history, v) != digest]
    target = to if to is not None else version_before(folder, history, now)
    if target is None or target not in good:
        raise ServingError(
            f"{folder} cannot go back from v{now} to {f'v{to}' if to else 'an older version'}: "
            f"expected one of {_listed(good)}",
            hint="publish a good model instead: bnpipe run",
        )
    return target


def _require_good(folder: Path, history: History, version: int) -> None:
    good = good_versions(folder, history)
    if version not in good:
        raise ServingError(
            f"{folder} cannot promote v{version}: expected one of {_listed(good)}",
            hint="a withdrawn model comes back by: bnpipe push --force --reason WHY",
        )


def _listed(versions: list[int]) -> str:
    return ", ".join(f"v{v}" for v in versions) or "no version"
