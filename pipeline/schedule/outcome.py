"""What became of a slot: the record that is written once, when the slot is settled for good.

`<home>/schedule/slots/<slot name>.json` holds one `Outcome`, for example

    {"attempt": 1, "ended": "2026-11-22T03:01:12Z", "exit_code": 0, "missed": 0,
     "reasons": [{"trigger": "new_span", "sentence": "span 7 is new"}], "result": "pushed",
     "run": "0012", "sentence": "v4 is live in /srv/mnist/4", "slot": "2026-11-22T03:00:00Z",
     "started": "2026-11-22T03:00:04Z", "version": 4}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from bnpipe.pipeline.engine.errors import StoreError
from bnpipe.pipeline.schedule.slot import Slot


class Result(StrEnum):
    """How a slot ended."""

    PUSHED = "pushed"
    """A new version is live."""
    UNCHANGED = "unchanged"
    """No trigger fired, or nothing that a model is made of has changed: no new version."""
    BLOCKED = "blocked"
    """The data gate said no: nothing was trained."""
    NOT_BLESSED = "not_blessed"
    """The gate of the evaluator or of the infra validator said no: the champion stays."""
    WITHDRAWN = "withdrawn"
    """Published as canary and taken back."""
    FAILED = "failed"
    """Faults, as often as was allowed, or one that another attempt cannot mend."""
    MISSED = "missed"
    """Nobody ticked in time, and `catch_up` says to let it go."""


HAND = "hand"
"""The trigger of a run that somebody asked for."""


@dataclass(frozen=True)
class FiredTrigger:
    """A trigger that fired, and why, for people.

    Attributes:
        trigger: a `sections.TriggerName`, or `HAND`.
        sentence: e.g. `span 7 is new`.
    """

    trigger: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.trigger}: {self.sentence}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a slot.

    Attributes:
        slot: when it was due, UTC ISO text; for a run by hand, when it was asked for.
        attempt: the attempt that settled it, from 1; 0 if none was made.
        result: how it ended.
        reasons: the triggers that fired; empty when none did.
        sentence: one line for people: the verdict, the error, the version, why nothing was done.
        run: id of the run, e.g. `0012`; None when none was started or its record is lost.
        version: the version that was published; None if none was.
        started: when the first attempt started, UTC ISO text.
        ended: when this was settled, UTC ISO text.
        exit_code: of the run, as in `engine.errors.ExitCode`; 0 when none was started.
        missed: how many earlier slots nobody ticked for and this one stands in for.
    """

    slot: str
    attempt: int
    result: Result
    reasons: tuple[FiredTrigger, ...]
    sentence: str
    run: str | None
    version: int | None
    started: str
    ended: str
    exit_code: int
    missed: int = 0

    @property
    def by_hand(self) -> bool:
        """Whether somebody asked for it."""
        return any(reason.trigger == HAND for reason in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """As plain values, by attribute name."""
        return {**dataclasses.asdict(self), "reasons": reasons_to_json(self.reasons)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        fields = {f.name: value[f.name] for f in dataclasses.fields(cls)}
        fields["result"] = Result(fields["result"])
        fields["reasons"] = reasons_from_json(fields["reasons"])
        return cls(**fields)


def reasons_to_json(reasons: tuple[FiredTrigger, ...]) -> list[dict[str, str]]:
    """Reasons as plain values."""
    return [dataclasses.asdict(reason) for reason in reasons]


def reasons_from_json(values: list[Mapping[str, str]]) -> tuple[FiredTrigger, ...]:
    """What `reasons_to_json` made."""
    return tuple(FiredTrigger(v["trigger"], v["sentence"]) for v in values)


def slots_folder(home: Path) -> Path:
    """Where claims (`<slot name>.claim`) and outcomes (`<slot name>.json`) lie."""
    return home / "schedule" / "slots"


def outcome_file(home: Path, slot: Slot) -> Path:
    """Where the outcome of a slot is written."""
    return slots_folder(home) / f"{slot.name}.json"


def outcomes(
    home: Path, count: int | None = None, *, until: datetime | None = None
) -> list[Outcome]:
    """The outcomes that are kept, oldest slot first.

    Args:
        home: the home; it need not exist.
        count: only so many of the newest.
        until: only those of slots up to here; a clock that was ahead has left later ones.

    Raises:
        StoreError: one of them is damaged.
    """
    slots = sorted(slot for slot in _settled(home) if until is None or slot.at <= until)
    wanted = slots if count is None else slots[max(len(slots) - count, 0) :]
    found = (_read(outcome_file(home, slot)) for slot in wanted)
    return [outcome for outcome in found if outcome is not None]


def _settled(home: Path) -> Iterator[Slot]:
    for path in slots_folder(home).glob("*.json"):
        slot = Slot.named(path.stem)
        if slot is not None:
            yield slot


def _read(path: Path) -> Outcome | None:
    """An outcome; None when it has just been pruned.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return Outcome.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not an outcome: {type(error).__name__}: {error}",
            hint=f"to have the schedule do that slot no more, leave it; to forget it: rm {path}",
        ) from error
