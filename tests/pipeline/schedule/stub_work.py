"""A pipeline that remembers what was asked of it, for tests of the ticker."""

import dataclasses
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bnpipe.pipeline.configuration.sections import Schedule
from bnpipe.pipeline.configuration.timetable import make_timetable
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import FiredTrigger, Result
from bnpipe.pipeline.schedule.tick import Ticker
from bnpipe.pipeline.schedule.work import Looked, Ran

PUSHED = Ran(exit_code=0, sentence="v1 is live", result=Result.PUSHED, run="0001", version=1)


def moment(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)  # type: ignore[misc,arg-type]


@dataclasses.dataclass
class StubWork:
    """Every run ends as `answers` says, in turn; the last answer holds for all further ones.

    What ends well lands in `folder`, where `ended` finds it, as a real run's record would.
    """

    folder: Path
    answers: list[Ran] = dataclasses.field(default_factory=lambda: [PUSHED])
    looked: Looked = Looked((FiredTrigger("clock", "it is time"),))
    nothing: str | None = None
    at_work: str | None = None
    tried: str | None = None
    on_run: Callable[[Claim], None] = lambda claim: None
    runs: list[str] = dataclasses.field(default_factory=list)

    def busy(self) -> str | None:
        return self.at_work

    def look(self, claim: Claim, now: datetime) -> Looked:
        return self.looked

    def unchanged(self) -> str | None:
        return self.nothing

    def trial(self) -> str | None:
        decided = any("hand" in slot and count for slot, count in self.completed().items())
        return None if decided else self.tried

    def run(self, claim: Claim) -> Ran:
        self.runs.append(claim.slot.name)
        self.on_run(claim)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if claim.trial is not None and any(self._record(claim).glob("*")):
            return answer  # decided before; that is said once more
        if answer.result is not None and (claim.trial is None or answer.version is not None):
            self._record(claim).mkdir(parents=True, exist_ok=True)
            (self._record(claim) / uuid.uuid4().hex).mkdir()  # all at once or not at all
        return answer

    def ended(self, claim: Claim) -> tuple[int, Ran] | None:
        record = self._record(claim)
        if claim.trial is not None or not record.exists() or not any(record.iterdir()):
            return None
        return claim.open_attempts[-1], self.answers[0]

    def completed(self) -> dict[str, int]:
        """How often the run of each slot came to its end."""
        return {p.name: len(list(p.iterdir())) for p in self.folder.glob("*")}

    def _record(self, claim: Claim) -> Path:
        return self.folder / claim.slot.name


class Clock:
    """A clock that tests set."""

    def __init__(self, *when: int) -> None:
        self.now = moment(*when)

    def __call__(self) -> datetime:
        return self.now

    def on(self, **span: float) -> None:
        self.now += timedelta(**span)


def ticker(
    folder: Path,
    clock: Clock,
    work: StubWork,
    cron: str | None = "0 3 * * *",
    timezone: str = "UTC",
    every: timedelta | None = None,
    **schedule: Any,
) -> Ticker:
    """A ticker over a home in a folder, daily at three unless told otherwise."""
    timetable = make_timetable(None if every else cron, every, timezone)
    return Ticker(Book(folder / "home"), timetable, Schedule(**schedule), work, clock, lambda: 1.0)
