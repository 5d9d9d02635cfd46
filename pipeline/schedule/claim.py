"""A claim: the durable word that a slot is being done, and how often that was tried.

`<home>/schedule/slots/<slot name>.claim` is made with O_EXCL and fsynced before anything is done
about the slot; it goes when the outcome is there. Only the holder of the schedule's lock writes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnpipe.pipeline.schedule.outcome import FiredTrigger, reasons_from_json
from bnpipe.pipeline.schedule.slot import Slot


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt at a slot.

    Attributes:
        number: from 1.
        at: when it began, UTC ISO text.
        ended: None while it is at work or if it was cut short; `failed`, or `put back`, which
            does not count: it was stopped from outside, or another run was in the way.
        sentence: why it ended so.
        run: id of its run, if it came to one.
        exit_code: of that run.
    """

    number: int
    at: str
    ended: str | None = None
    sentence: str = ""
    run: str | None = None
    exit_code: int = 0


FAILED, PUT_BACK = "failed", "put back"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A slot that somebody has taken.

    Attributes:
        slot: which.
        missed: how many earlier slots it stands in for.
        asked: by hand, the reason that was given.
        trial: the run that made the version whose trial is gone on with, where that is all.
        reasons: what the triggers said in the first attempt; None before they were asked.
        attempts: so far, in order.
        not_before: UTC ISO text; the next attempt waits until then.
    """

    slot: Slot
    missed: int = 0
    asked: str | None = None
    trial: str | None = None
    reasons: tuple[FiredTrigger, ...] | None = None
    attempts: tuple[Attempt, ...] = ()
    not_before: str | None = None

    @property
    def counted(self) -> int:
        """Number of attempts that count: also those that were cut short, nobody knows by what."""
        return sum(attempt.ended != PUT_BACK for attempt in self.attempts)

    @property
    def open_attempts(self) -> tuple[int, ...]:
        """Attempts whose end nobody wrote down."""
        return tuple(a.number for a in self.attempts if a.ended is None)

    def begin(self, at: str) -> Claim:
        """With one more attempt."""
        attempt = Attempt(number=len(self.attempts) + 1, at=at)
        return dataclasses.replace(self, attempts=(*self.attempts, attempt), not_before=None)

    def end(self, number: int, ended: str, **record: Any) -> Claim:
        """With the end of an attempt."""
        attempts = tuple(
            dataclasses.replace(a, ended=ended, **record) if a.number == number else a
            for a in self.attempts
        )
        return dataclasses.replace(self, attempts=attempts)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {**dataclasses.asdict(self), "slot": self.slot.iso}

    @classmethod
    def from_json(cls, slot: Slot, value: Mapping[str, Any]) -> Claim:
        """A claim from what `to_json` made, for the slot that the file is named after.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        reasons = value["reasons"]
        known = Attempt.__dataclass_fields__.keys()  # claims of older versions hold more
        attempts = [{name: a[name] for name in a.keys() & known} for a in value["attempts"]]
        return cls(
            slot=slot,
            missed=int(value["missed"]),
            asked=value["asked"],
            trial=value.get("trial"),  # claims of older versions have none
            reasons=None if reasons is None else reasons_from_json(reasons),
            attempts=tuple(Attempt(**attempt) for attempt in attempts),
            not_before=value["not_before"],
        )
