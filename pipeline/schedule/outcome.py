"""The outcome of a slot: the record that is written once, when the slot is settled for good.

`<home>/schedule/slots/<slot name>.json` holds one `Outcome`, for example

    {"attempt": 1, "ended": "2026-11-22T03:01:12Z", "exit_code": 0, "missed": 0,
     "reasons": [{"trigger": "new_span", "sentence": "span 7 is new"}], "result": "pushed",
     "run": "0012", "sentence": "v4 is live in /srv/mnist/4", "slot": "2026-11-22T03:00:00Z",
     "started": "2026-11-22T03:00:04Z", "version": 4}
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from bnpipe.data.plain_file import listed, read_plain
from bnpipe.pipeline.engine.errors import StoreError
from bnpipe.pipeline.schedule.slot import Slot


class Result(StrEnum):
    """The ways that a slot ends."""

    PUSHED = "pushed"
    """A new version is live."""
    UNCHANGED = "unchanged"
    """No trigger fired, or nothing that a model is made of has changed: no new version."""
    BLOCKED = "blocked"
    """The data gate said no, or the label gate: the data is at fault, not the model."""
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
TRIAL = "trial"
"""The trigger of what is done between slots: a version is on trial."""


@dataclass(frozen=True)
class FiredTrigger:
    """A trigger that fired, and why, for people.

    Attributes:
        trigger: a `sections.TriggerName`, `HAND` or `TRIAL`.
        sentence: e.g. `span 7 is new`.
    """

    trigger: str
    sentence: str

    def __str__(self) -> str:
        return f"{self.trigger}: {self.sentence}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a slot.

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
        """True when somebody asked for it."""
        return any(reason.trigger == HAND for reason in self.reasons)

    def to_json(self) -> dict[str, Any]:
        """As plain values, by attribute name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        """An outcome from what `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        fields = {f.name: value[f.name] for f in dataclasses.fields(cls)}
        fields["result"] = Result(fields["result"])
        fields["reasons"] = reasons_from_json(fields["reasons"])
        return cls(**fields)


def reasons_from_json(values: list[Mapping[str, str]]) -> tuple[FiredTrigger, ...]:
    """Reasons from their plain values."""
    return tuple(FiredTrigger(v["trigger"], v["sentence"]) for v in values)


def slots_folder(home: Path) -> Path:
    """The folder of claims (`<slot name>.claim`) and outcomes (`<slot name>.json`)."""
    return home / "schedule" / "slots"


def slots_with(home: Path, ending: str) -> list[Slot]:
    """The slots that have a file with this ending, oldest first."""
    names = (path.name for path in listed(slots_folder(home)))
    slots = (Slot.named(n.removesuffix(ending)) for n in names if n.endswith(ending))
    return sorted(slot for slot in slots if slot is not None)


def outcome_file(home: Path, slot: Slot) -> Path:
    """The file of a slot's outcome."""
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
    slots = [s for s in slots_with(home, ".json") if until is None or s.at <= until]
    wanted = slots if count is None else slots[max(len(slots) - count, 0) :]
    kept = (_read(outcome_file(home, slot)) for slot in wanted)
    return [outcome for outcome in kept if outcome is not None]


def _read(path: Path) -> Outcome | None:
    """An outcome; None when it has just been pruned.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return Outcome.from_json(json.loads(read_plain(path)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is not an outcome: {type(error).__name__}: {error}",
            hint=f"to have the schedule do that slot no more, leave it; to forget it: rm {path}",
        ) from error
