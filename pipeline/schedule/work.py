"""The questions of a tick; `pipeline.schedule.retraining` answers them with the product."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import FiredTrigger, Result


@dataclass(frozen=True, kw_only=True)
class Ran:
    """The end of one attempt's run.

    Attributes:
        sentence: one line for people.
        exit_code: as in `engine.errors.ExitCode`; negative when a signal killed it.
        result: what a run that ended well or by a verdict comes to; None for a fault.
        run: its id; None when it left no record.
        version: what it published, if anything.
    """

    sentence: str
    exit_code: int = 0
    result: Result | None = None
    run: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Looked:
    """The answers of the triggers.

    Attributes:
        reasons: of the triggers that fired.
        otherwise: for people: what the others found, and what could not be looked at.
        failed: true when one could not be looked at.
    """

    reasons: tuple[FiredTrigger, ...]
    otherwise: tuple[str, ...] = ()
    failed: bool = False


class Work(Protocol):
    """The pipeline of a home, as the schedule sees it."""

    def busy(self) -> str | None:
        """A sentence when a run is at work in this home; None when none is."""

    def look(self, claim: Claim, now: datetime) -> Looked:
        """Ask the triggers."""

    def unchanged(self) -> str | None:
        """A sentence when a run would do nothing; None when there is work."""

    def trial(self) -> str | None:
        """The run that made a version whose trial is to be gone on with; None if there is none."""

    def run(self, claim: Claim) -> Ran:
        """Run the pipeline for the last attempt of a claim, in a child process.

        A claim on a trial has that gone on with, and nothing run.
        """

    def ended(self, claim: Claim) -> tuple[int, Ran] | None:
        """The end of the run of an attempt, with its number, where nobody wrote that down.

        None when there was no such run, or it was cut short.
        """
