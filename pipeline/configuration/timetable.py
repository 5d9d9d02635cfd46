"""The slots of a schedule: cron expressions or intervals, as pure functions of aware moments.

A cron expression is read as Debian's cron reads it, Sunday being 0 and 7, in a time zone. When
clocks go forward, a slot in the hour that does not exist comes right after it; when they go back,
one at a fixed time of day comes once, and one with `*` in its minutes or hours as often as the
hands of the clock pass it. An interval counts from 1970-01-01T00:00Z, so it knows no time zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_SHIFT = timedelta(hours=3)
"""More than any zone's clock is ever put back by; what cron says depends on no more than that."""
_FIRST_WINDOW = timedelta(hours=6)


@dataclass(frozen=True)
class Timetable:
    """The slots of a schedule.

    Attributes:
        cron: five fields; None for an interval.
        every: the interval; None for a cron expression.
        zone: time zone of the cron expression.
    """

    cron: str | None
    every: timedelta | None
    zone: ZoneInfo

    def __str__(self) -> str:
        return f"cron {self.cron} ({self.zone.key})" if self.cron else f"every {self.every}"

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The slots after a moment, ascending, in UTC; few or none if cron matches no date."""
        if self.every is not None:
            passed = (moment - _EPOCH) // self.every
            while True:
                passed += 1
                yield _EPOCH + passed * self.every
        last = moment
        for slot in self._matches(moment):
            if slot > last:  # in UTC: a slot behind a gap may coincide with another one
                last = slot
                yield slot

    def newest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """The newest slots in (after, until], at most `count`, ascending.

        After a jump of the clock over years only the end of the time between is looked at.
        """
        first = next(self.after(after), None)
        if first is None or first > until:  # nearly always
            return []
        window = _FIRST_WINDOW
        while True:
            start = max(after, until - window)
            slots = list(takewhile(lambda slot: slot <= until, self.after(start)))
            if len(slots) >= count or start == after:
                return slots[-count:]
            window *= 2

    def _matches(self, moment: datetime) -> Iterator[datetime]:
        """The matches of cron from a little before a moment on, in UTC; repeats are possible."""
        from cronsim import CronSim

        assert self.cron is not None
        start = moment.astimezone(UTC)
        if self.zone.key != "UTC":
            start = (start - _LONGEST_SHIFT).astimezone(self.zone)
        for match in CronSim(self.cron, start):
            yield match.astimezone(UTC)


def make_timetable(cron: str | None, every: timedelta | None, timezone: str) -> Timetable | None:
    """The timetable that a configuration asks for; None if it asks for none.

    Raises:
        ValueError: both are given, the expression is none, or there is no such time zone.
    """
    if cron is not None and every is not None:
        raise ValueError("schedule: cron and every exclude each other; give one of them")
    zone = _zone(timezone)
    if cron is None and every is None:
        return None
    if cron is not None:
        _check_cron(cron)
    return Timetable(cron, every, zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(
            f"schedule.timezone: expected an IANA name such as Europe/Berlin, received {name!r}"
        ) from None


def _check_cron(text: str) -> None:
    from cronsim import CronSim, CronSimError

    try:
        if len(text.split()) != 5:
            raise CronSimError("it has not five fields")
        next(CronSim(text, _EPOCH))
    except (CronSimError, StopIteration) as error:
        why = f"{error}".lower() or "no date matches"
        raise ValueError(
            "schedule.cron: expected minute, hour, day of month, month and day of week such as "
            f"0 3 * * 1-5, received {text!r} ({why})"
        ) from None
