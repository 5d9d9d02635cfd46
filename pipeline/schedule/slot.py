"""A slot: an instant at which retraining is due, and its name in the file system."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

_NAME = "%Y%m%dT%H%M%SZ"
_BY_HAND = "-hand"
_PARTS = re.compile(rf"(\d{{4}})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z({_BY_HAND})?", re.ASCII)


@dataclass(frozen=True, order=True)
class Slot:
    """One slot.

    Attributes:
        at: when it is due, aware, in UTC, to the second; by hand, when it was asked for.
        by_hand: somebody asked for it; the schedule knows nothing of it.
    """

    at: datetime
    by_hand: bool = False

    @property
    def name(self) -> str:
        """Its name in the file system, e.g. `20261122T030000Z`."""
        return self.at.strftime(_NAME) + (_BY_HAND if self.by_hand else "")

    @property
    def iso(self) -> str:
        """As records tell it, e.g. `2026-11-22T03:00:00Z`."""
        return iso(self.at)

    @classmethod
    def named(cls, name: str) -> Slot | None:
        """The slot of a name; None if it is not one."""
        parts = _PARTS.fullmatch(name)  # strptime takes thirty times as long
        if parts is None:
            return None
        *numbers, by_hand = parts.groups()
        year, month, day, hour, minute, second = map(int, numbers)
        try:
            at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            return cls(at, by_hand is not None)
        except ValueError:
            return None


def iso(moment: datetime) -> str:
    """An aware moment as UTC ISO text to the second, e.g. `2026-11-22T03:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """Read what `iso` wrote.

    Raises:
        ValueError: it is something else.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
