"""The health of a schedule: what a monitor asks, what `schedule status` shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from bnpipe.pipeline.configuration.duration import in_words, parse_duration
from bnpipe.pipeline.configuration.sections import Schedule
from bnpipe.pipeline.configuration.timetable import Timetable, make_timetable
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.estimates import Estimate, flaw, newest
from bnpipe.pipeline.report import OVERVIEW
from bnpipe.pipeline.schedule.book import Book
from bnpipe.pipeline.schedule.claim import Claim
from bnpipe.pipeline.schedule.outcome import Outcome, Result, outcomes
from bnpipe.pipeline.schedule.slot import iso
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, versions

_BAD = (Result.FAILED, Result.MISSED)
_PATIENCE = timedelta(minutes=15)
"""A slot that is due is picked up within three ticks of five minutes, if anybody ticks."""


@dataclass(frozen=True)
class Health:
    """The state of a schedule, as a monitor sees it.

    Attributes:
        attention: sentences about what somebody should look at; empty when all is well.
        stale: the sentence among them that says that the served model is too old, if it is.
        next_slots: the slots to come.
        last: the newest outcomes, oldest first.
        claims: slots that are being done or wait for another attempt.
        working: whether a slot is being done now.
        served: the live version and its age; None when none is known.
        ticked: when somebody last ticked; None if never.
        estimate: how good the live version is thought to be on logged requests; None if unknown.
        page: all runs as a page, if `bnpipe report --all` was drawn.
    """

    attention: tuple[str, ...]
    stale: str | None
    next_slots: tuple[datetime, ...]
    last: tuple[Outcome, ...]
    claims: tuple[Claim, ...]
    working: bool
    served: tuple[int, timedelta] | None
    ticked: datetime | None
    estimate: Estimate | None = None
    page: Path | None = None


def timetable_of(schedule: Schedule) -> Timetable | None:
    """The slots that a configuration asks for; None if it asks for none."""
    every = parse_duration(schedule.every) if schedule.every else None
    return make_timetable(schedule.cron, every, schedule.timezone)


def require_timetable(schedule: Schedule) -> Timetable:
    """The slots that a configuration asks for.

    Raises:
        ConfigError: it asks for none.
    """
    timetable = timetable_of(schedule)
    if timetable is None:
        raise ConfigError(
            "nothing is scheduled: schedule.cron or schedule.every says when slots are",
            hint='--set "schedule.cron=0 3 * * *", or in bnpipe.yaml',
        )
    return timetable


def health(
    schedule: Schedule,
    home: Path,
    served: Path,
    now: datetime,
    *,
    count: int = 5,
    exhausted: int | None = None,
) -> Health:
    """Look at everything; reads only.

    Args:
        schedule: the section of the configuration.
        home: the home.
        served: the served folder.
        now: the present moment, aware.
        count: how many slots and outcomes to list.
        exhausted: see `canary.exhausted`.

    Raises:
        StoreError: an outcome is damaged.
        ServingError: the served folder cannot be read.
    """
    book, timetable = Book(home), timetable_of(schedule)
    last = tuple(outcomes(home, count, until=now))
    age = served_age(served, now)
    ticked, page = book.ticked, home / OVERVIEW
    stale = _stale(schedule, age)
    attention = [sentence for sentence in (stale, flaw(home)) if sentence]
    if last and last[-1].result in _BAD:
        attention.append(f"{last[-1].slot} {last[-1].result}: {last[-1].sentence}")
    attention += _overdue(book, timetable, schedule, now)
    if exhausted is not None:
        shown = f"v{exhausted} stays canary: all images were asked for, and nothing is shown of it"
        attention.append(f"{shown}; decide: bnpipe promote {exhausted}, or push another")
    return Health(
        attention=tuple(attention),
        stale=stale,
        next_slots=tuple(islice(timetable.after(now), count)) if timetable else (),
        last=last,
        claims=tuple(book.claims()),
        working=book.is_locked,
        served=age,
        ticked=None if ticked is None else datetime.fromtimestamp(ticked, UTC),
        estimate=_estimate(home, served),
        page=page if page.exists() else None,
    )


def _estimate(home: Path, served: Path) -> Estimate | None:
    version = versions.live(served)
    if version is not None:
        with suppress(ServingError):  # put there by hand: no model of ours is behind it
            source = versions.provenance_of(served, version)
            return newest(home, version, source.get("inputs", {}).get("model"))
    return None


def _stale(schedule: Schedule, age: tuple[int, timedelta] | None) -> str | None:
    if schedule.stale_after is None or age is None:
        return None
    limit = parse_duration(schedule.stale_after)
    if age[1] <= limit:
        return None
    return f"v{age[0]} is {in_words(age[1])} old, stale after {in_words(limit)}"


def _overdue(
    book: Book, timetable: Timetable | None, schedule: Schedule, now: datetime
) -> Iterator[str]:
    """A slot that is due or half done and that nobody comes for: the scheduler is not running."""
    if timetable is None or book.is_locked:
        return
    state = book.state()
    if state is None:
        yield "nobody has ticked yet: bnpipe schedule run"
        return
    patience = max(_PATIENCE, 3 * timedelta(seconds=schedule.tick_seconds))
    claims = book.claims()
    if claims:  # the slots behind them wait for as long as somebody ticks
        if now.timestamp() - (book.ticked or 0.0) > patience.total_seconds():
            yield f"{claims[0].slot.iso} is unfinished and nobody ticks: bnpipe schedule run"
        return
    due = next(timetable.after(state.mark), None)
    if due is not None and now - due > patience:
        yield f"{iso(due)} is overdue and nobody ticks: bnpipe schedule run"


def served_age(base: Path, now: datetime) -> tuple[int, timedelta] | None:
    """The live version and how long ago it was published; None when none is known to be live."""
    version = versions.live(base)
    if version is None:
        return None
    published = ledger.read(base).times.get(version)
    return None if published is None else (version, now - published)
