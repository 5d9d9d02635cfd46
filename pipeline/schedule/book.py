"""The book of a schedule: its settled slots and its claimed ones. Files, and nothing else.

    <home>/schedule/lock                  held by whoever does a slot, for as long as it takes
                    slots/<slot>.claim    a slot that is being done or waits for another attempt
                    slots/<slot>.json     its outcome; the claim goes once it is there
                    state.json            up to where all is settled

Slots up to the `mark` are settled, except those that have a claim. The mark follows the outcomes;
should the clock go back, the mark goes back with it, and outcomes keep their slots from being done
again. What is lost of `state.json` follows from the names of claims and outcomes.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bnpipe.data.durable import STAGING, fsync, write_all
from bnpipe.data.flock import is_locked
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.engine.errors import StoreError
from bnpipe.pipeline.engine.files import write_json
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import Outcome, outcome_file, slots_folder, slots_with
from bnpipe.pipeline.schedule.slot import Slot, iso, parse_iso

FORMAT = 1


@dataclass(frozen=True)
class Position:
    """The point that the schedule has come to.

    Attributes:
        mark: no slot up to here is due, unless it is claimed.
        pruned: no slot up to here is done again: outcomes were removed up to here. A clock set back
            beyond it takes it along, or one that was years ahead would silence the schedule.
    """

    mark: datetime
    pruned: datetime | None = None


class Book:
    """The book of one home.

    Args:
        home: the home; what is missing of it is made when something is written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._slots = slots_folder(home)
        self._state = home / "schedule" / "state.json"
        self._lock = home / "schedule" / "lock"

    def lock(self) -> AbstractContextManager[bool]:
        """Take the schedule's lock; yields whether it was to be had. The kernel drops it."""
        return try_lock(self._lock)

    @property
    def is_locked(self) -> bool:
        """True while somebody is doing a slot."""
        return is_locked(self._lock)

    @property
    def ticked(self) -> float | None:
        """Time at which the lock was last taken, in seconds since the epoch; None if never."""
        try:
            return self._lock.stat().st_mtime
        except OSError:
            return None

    def state(self) -> Position | None:
        """The point that the schedule has come to; None before the first tick.

        Raises:
            StoreError: a newer bnpipe wrote it.
        """
        try:
            value = json.loads(read_plain(self._state))
            if value["format"] > FORMAT:
                raise StoreError(
                    f"{self._state} has format {value['format']}, this bnpipe knows up to {FORMAT}",
                    hint="upgrade bnpipe, or point BNPIPE_HOME at another folder",
                )
            pruned = value["pruned"]
            return Position(parse_iso(value["mark"]), pruned and parse_iso(pruned))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return self._rebuilt()

    def write_state(self, state: Position) -> None:
        """Keep the point that the schedule has come to."""
        self._slots.mkdir(parents=True, exist_ok=True)
        pruned = state.pruned and iso(state.pruned)
        write_json(self._state, {"format": FORMAT, "mark": iso(state.mark), "pruned": pruned})

    def is_settled(self, slot: Slot) -> bool:
        """True when a slot has an outcome."""
        return outcome_file(self.home, slot).exists()

    def claims(self) -> list[Claim]:
        """The claims without an outcome, oldest slot first."""
        claimed = slots_with(self.home, ".claim")
        return [self._read(slot) for slot in claimed if not self.is_settled(slot)]

    def claim(self, claim: Claim) -> None:
        """Make a claim durable.

        Raises:
            FileExistsError: the slot is claimed.
            OSError: the disk is full or refuses; then there is no claim.
        """
        path = self._claim_file(claim.slot)
        self._slots.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            try:
                write_all(descriptor, json_text(claim.to_json()).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            fsync(self._slots)
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            raise

    def update(self, claim: Claim) -> None:
        """Replace a claim by what it has become."""
        write_json(self._claim_file(claim.slot), claim.to_json())

    def drop(self, claim: Claim) -> None:
        """Give up a claim that needs no outcome."""
        self._claim_file(claim.slot).unlink(missing_ok=True)

    def settle(self, claim: Claim, outcome: Outcome, keep: int) -> None:
        """Write a claimed slot's outcome, which ends the claim, and remove the oldest outcomes.

        Args:
            claim: what is settled.
            outcome: what became of it.
            keep: how many outcomes to keep.
        """
        write_json(outcome_file(self.home, claim.slot), outcome.to_json())
        state = self.state()
        if state is not None and not claim.slot.by_hand and claim.slot.at > state.mark:
            self.write_state(Position(claim.slot.at, state.pruned))
        self._claim_file(claim.slot).unlink(missing_ok=True)
        self.prune(keep)

    def prune(self, keep: int) -> None:
        """Remove all but the newest outcomes, and what killed processes left."""
        doomed = slots_with(self.home, ".json")[:-keep]
        state = self.state()
        if doomed and state is not None:
            # Before the outcomes go, which keep their slots from being done again.
            newest = max(doomed[-1].at, state.pruned or doomed[-1].at)
            self.write_state(Position(state.mark, newest))
        for slot in doomed:
            outcome_file(self.home, slot).unlink(missing_ok=True)
        for slot in filter(self.is_settled, slots_with(self.home, ".claim")):
            self._claim_file(slot).unlink(missing_ok=True)
        for folder in (self._slots, self._slots.parent):
            for path in folder.glob(f"{STAGING}*"):
                path.unlink(missing_ok=True)

    def _rebuilt(self) -> Position | None:
        """The state as claims and outcomes tell it."""
        settled = [s for s in slots_with(self.home, ".json") if not s.by_hand]
        slots = [*settled, *(s for s in slots_with(self.home, ".claim") if not s.by_hand)]
        if not slots:
            return None
        # Outcomes older than the oldest may have been pruned: no slot up to it is done again.
        return Position(max(slots).at, settled[0].at if settled else None)

    def _read(self, slot: Slot) -> Claim:
        """A claim; one whose maker was killed before it was written is one without attempts."""
        try:
            return Claim.from_json(slot, json.loads(read_plain(self._claim_file(slot))))
        except (OSError, ValueError, KeyError, TypeError):
            return Claim(slot=slot)

    def _claim_file(self, slot: Slot) -> Path:
        return self._slots / f"{slot.name}.claim"
