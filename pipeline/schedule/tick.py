"""One tick: find the slot that is due, claim it, do it, write its outcome.

Whoever calls it, how often, how late, from how many places: the schedule's lock lets one tick at a
time through, and a claim is durable before its slot is done. So a slot is done once; what was cut
short in between is found by the next tick as a claim without an outcome, and finished.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from bnpipe.pipeline.configuration.duration import parse_duration
from bnpipe.pipeline.configuration.sections import Schedule
from bnpipe.pipeline.configuration.timetable import Timetable
from bnpipe.pipeline.engine.errors import ExitCode, LockHeld, Terminated, exit_code_of, one_line
from bnpipe.pipeline.schedule.book import Book, Position
from bnpipe.pipeline.schedule.claim import FAILED, PUT_BACK, Claim
from bnpipe.pipeline.schedule.outcome import HAND, TRIAL, FiredTrigger, Outcome, Result
from bnpipe.pipeline.schedule.slot import Slot, iso, parse_iso
from bnpipe.pipeline.schedule.work import Ran, Work

Clock = Callable[[], datetime]
"""The present moment, aware."""

MOST_MISSED = 1000
"""Missed slots are counted up to here."""
_LONGEST_WAIT = timedelta(hours=1)
_TRIES_PER_ATTEMPT = 10
"""A slot that was put back as often as this for each of its attempts is given up."""
_FINAL = (ExitCode.USAGE, ExitCode.STORE, ExitCode.BUG)
"""Faults that another attempt does not mend."""
_STOPPED = (ExitCode.LOCKED, ExitCode.INTERRUPTED, ExitCode.TERMINATED)
"""Not the run's fault: it was stopped, or another one was in the way."""


@dataclass(frozen=True)
class Tick:
    """The result of a tick.

    Attributes:
        sentence: one line for people.
        outcome: of the slot that it settled, if it settled one.
        exit_code: of the run; 0 when none was needed.
    """

    sentence: str
    outcome: Outcome | None = None
    exit_code: int = 0


class Ticker:
    """Ticks for one home.

    Args:
        book: where slots are recorded.
        timetable: which slots there are; None for a home without a schedule.
        schedule: how they are made up for and tried again.
        work: the pipeline.
        clock: tells the time.
        jitter: a random number in [0, 1) that waits are multiplied by.
    """

    def __init__(
        self,
        book: Book,
        timetable: Timetable | None,
        schedule: Schedule,
        work: Work,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._book = book
        self._timetable = timetable
        self._schedule = schedule
        self._work = work
        self._clock = clock
        self._jitter = jitter

    def due(self) -> Tick:
        """Do the slot that is due, if one is and nobody else is at work; else go on with a trial.

        Raises:
            StoreError: a newer bnpipe wrote the book.
            OSError: the disk is full or refuses; what was not claimed stays due, and a claim is
                finished by a later tick.
        """
        with self._book.lock() as mine:
            if not mine:
                return Tick("another tick is at work")
            state = self._current_state()
            claims = self._book.claims()
            if claims:
                return self._do(claims[0])
            tick = self._claim_due(state)
            ran = tick.outcome is not None and tick.outcome.run is not None
            # Nor behind one that failed: whoever ticks is to see that.
            return tick if ran or tick.exit_code or self._book.claims() else self._go_on(tick)

    def by_hand(self, reason: str) -> Tick:
        """Retrain now, whatever is due.

        Raises:
            LockHeld: a slot is being done.
        """
        with self._book.lock() as mine:
            if not mine:
                raise LockHeld(
                    "a slot of the schedule is being done", hint="look: bnpipe schedule status"
                )
            busy = self._work.busy()
            if busy is not None:
                raise LockHeld(busy, hint="wait for it")
            claim = Claim(slot=self._unscheduled(), asked=reason)
            self._book.claim(claim)
            return self._do(claim)

    def _unscheduled(self) -> Slot:
        """A slot of this moment that the timetable knows nothing of."""
        slot, taken = Slot(self._now(), by_hand=True), {c.slot for c in self._book.claims()}
        while slot in taken or self._book.is_settled(slot):
            slot = Slot(slot.at + timedelta(seconds=1), by_hand=True)
        return slot

    def _go_on(self, tick: Tick) -> Tick:
        """Go on with a version's trial, if there is one, in a tick that had nothing to run."""
        try:
            run = None if self._work.busy() else self._work.trial()
        except Exception as error:  # the slot's outcome is written, and is still to be told
            sentence = f"{tick.sentence}; no trial can be looked for: {one_line(error)}"
            return replace(tick, sentence=sentence, exit_code=exit_code_of(error))
        if run is None:
            return tick
        reasons = (FiredTrigger(TRIAL, f"the version of run {run} is on trial"),)
        claim = Claim(slot=self._unscheduled(), trial=run, reasons=reasons)
        self._book.claim(claim)
        done = self._do(claim)
        return replace(done, outcome=done.outcome or tick.outcome)

    def _now(self) -> datetime:
        return self._clock().astimezone(UTC).replace(microsecond=0)

    def _current_state(self) -> Position:
        """The state of the book; the first tick begins it, and a clock set back is followed."""
        now, state = self._now(), self._book.state()
        if state is not None and state.mark <= now:
            return state
        # The clock was set back: slots between `now` and the old mark fall due a second time. Those
        # that were done have an outcome, by which they are passed over. `pruned` goes back too: in
        # the future it would keep every slot up to there from being done.
        pruned = state.pruned if state else None
        fresh = Position(now, pruned and min(pruned, now))
        self._book.write_state(fresh)
        return fresh

    def _claim_due(self, state: Position) -> Tick:
        if self._timetable is None:
            return Tick("nothing is scheduled")
        now = self._now()
        start = max(state.mark, state.pruned or state.mark)
        slots = [
            slot
            for slot in map(Slot, self._timetable.newest(start, now, MOST_MISSED))
            if not self._book.is_settled(slot)
        ]
        wanted = self._wanted(slots, now)
        missed = slots[: slots.index(wanted[0])] if wanted else slots
        if missed:
            # Before the claim: after a kill in between, the missed slots stay let go, and the slot
            # that was to be claimed is still due.
            self._book.write_state(Position(missed[-1].at, state.pruned))
        if wanted:
            claim = Claim(slot=wanted[0], missed=len(missed))
            self._book.claim(claim)
            return self._do(claim)
        if missed:
            return self._missed(missed)
        following = next(self._timetable.after(now), None)
        return Tick(f"nothing is due; next {iso(following)}" if following else "nothing is due")

    def _wanted(self, slots: list[Slot], now: datetime) -> list[Slot]:
        """The due slots that are to be done by `catch_up`, oldest first."""
        newest = slots[-1:]
        if self._schedule.catch_up == "all":
            return slots[-self._schedule.catch_up_limit :]
        if self._schedule.catch_up == "none":
            late = timedelta(seconds=self._schedule.late_seconds)
            return [slot for slot in newest if now - slot.at <= late]
        return newest

    def _missed(self, slots: list[Slot]) -> Tick:
        """Record slots that nobody ticked for in time, as one outcome of the newest."""
        claim = Claim(slot=slots[-1], missed=len(slots) - 1)
        if len(slots) == 1:
            sentence = f"{claim.slot.iso} was missed; catch_up is none"
        else:
            sentence = f"{len(slots)} slots from {slots[0].iso} on were missed; catch_up is none"
        return self._settled(claim, Ran(sentence=sentence, result=Result.MISSED))

    def _do(self, claim: Claim) -> Tick:
        """Go on with a claim from wherever it is."""
        busy = self._work.busy()
        if busy is not None:
            return Tick(f"{claim.slot.iso} waits: {busy}")
        ended = self._work.ended(claim) if claim.open_attempts else None
        if ended is not None:
            return self._judge(claim, *ended)
        if claim.not_before is not None:
            wait = parse_iso(claim.not_before) - self._now()
            # A longer wait was written before the clock was set back: it is not waited for.
            if timedelta(0) < wait <= _LONGEST_WAIT:
                return Tick(f"{claim.slot.iso} is tried again at {claim.not_before}")
        if self._is_used_up(claim):
            last = claim.attempts[-1]
            why = last.sentence or "the last one was cut short"
            sentence = f"{claim.counted} attempts: {why}"
            code = last.exit_code or ExitCode.FAILED
            return self._settled(claim, Ran(exit_code=code, sentence=sentence, run=last.run))
        claim = claim.begin(iso(self._now()))
        self._book.update(claim)
        return self._attempt(claim)

    def _attempt(self, claim: Claim) -> Tick:
        """Make the attempt that was begun."""
        number = claim.attempts[-1].number
        try:
            if claim.reasons is None:
                looked = self._look(claim)
                if isinstance(looked, Ran):
                    return self._judge(claim, number, looked)
                claim = looked
                self._book.update(claim)
            # Only at first: in a later attempt nothing may be left to do because an earlier one
            # made it all, and then the run says what came of it, such as the published version.
            nothing = self._work.unchanged() if number == 1 else None
            if nothing is not None:
                ran = Ran(sentence=nothing, result=Result.UNCHANGED)
            else:
                ran = self._work.run(claim)
        except (KeyboardInterrupt, Terminated) as stop:
            code = ExitCode.TERMINATED if isinstance(stop, Terminated) else ExitCode.INTERRUPTED
            self._judge(claim, number, Ran(exit_code=code, sentence="stopped"))
            raise
        except Exception as error:  # the boundary to the pipeline: a fault like the run's own
            ran = Ran(exit_code=exit_code_of(error), sentence=one_line(error))
        return self._judge(claim, number, ran)

    def _look(self, claim: Claim) -> Claim | Ran:
        """A claim with the reasons for a run; how the attempt ends if there are none."""
        if claim.asked is not None:
            return replace(claim, reasons=(FiredTrigger(HAND, claim.asked),))
        looked = self._work.look(claim, self._now())
        if looked.reasons:
            return replace(claim, reasons=looked.reasons)
        otherwise = "; ".join(looked.otherwise)
        if looked.failed:
            return Ran(exit_code=ExitCode.FAILED, sentence=otherwise)
        return Ran(sentence=f"no trigger: {otherwise}", result=Result.UNCHANGED)

    def _is_used_up(self, claim: Claim) -> bool:
        """True when no further attempt may be made."""
        most = self._schedule.attempts
        return claim.counted >= most or len(claim.attempts) >= _TRIES_PER_ATTEMPT * most

    def _judge(self, claim: Claim, number: int, ran: Ran) -> Tick:
        """Settle a claim by the end of an attempt, or keep it for another one.

        A trial that comes to nothing yet is gone on with by the next tick: that is no outcome.
        """
        if claim.trial is not None and ran.version is None:
            self._book.drop(claim)
            return Tick(ran.sentence, exit_code=_process_code(ran.exit_code))
        if ran.result is not None:
            return self._settled(claim, ran)
        how = PUT_BACK if ran.exit_code in _STOPPED else FAILED
        code = int(ran.exit_code)
        claim = claim.end(number, how, sentence=ran.sentence, run=ran.run, exit_code=code)
        final = ran.exit_code in _FINAL or claim.asked is not None
        if how == FAILED:
            again = self._again(claim)
            latest = parse_iso(claim.attempts[0].at) + parse_duration(self._schedule.retry_for)
            final = final or again > latest
            claim = replace(claim, not_before=iso(again))
        if final or (how == FAILED and self._is_used_up(claim)):
            many = claim.counted > 1
            sentence = f"{claim.counted} attempts: {ran.sentence}" if many else ran.sentence
            return self._settled(claim, replace(ran, sentence=sentence))
        self._book.update(claim)
        if how == PUT_BACK:
            return Tick(f"{claim.slot.iso} waits: {ran.sentence}")
        sentence = f"{claim.slot.iso} failed: {ran.sentence}; again after {claim.not_before}"
        return Tick(sentence, exit_code=_process_code(ran.exit_code))

    def _again(self, claim: Claim) -> datetime:
        """The time of the next attempt: exponential backoff with full jitter."""
        first = timedelta(seconds=self._schedule.backoff_seconds)
        bound = first * 2.0 ** min(claim.counted - 1, 32)
        return self._now() + self._jitter() * min(bound, _LONGEST_WAIT)

    def _settled(self, claim: Claim, ran: Ran) -> Tick:
        """Write the outcome."""
        now = iso(self._now())
        outcome = Outcome(
            slot=claim.slot.iso,
            attempt=len(claim.attempts),
            result=ran.result or Result.FAILED,
            reasons=claim.reasons or (),
            sentence=ran.sentence,
            run=ran.run,
            version=ran.version,
            started=claim.attempts[0].at if claim.attempts else now,
            ended=now,
            exit_code=int(ran.exit_code),
            missed=claim.missed,
        )
        self._book.settle(claim, outcome, self._schedule.keep_outcomes)
        sentence = outcome.sentence.removeprefix(f"{outcome.result}: ")
        code = _process_code(ran.exit_code)
        return Tick(f"{outcome.slot} {outcome.result}: {sentence}", outcome, code)


def _process_code(code: int) -> int:
    """A code that a process can exit with: a run that a signal killed has failed."""
    return code if code >= 0 else ExitCode.FAILED
