"""A slot: an instant at which retraining is due, and its name in the file system."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

_NAME = "%Y%m%dT%H%M%SZ"
_BY_HAND = "-hand"


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
        try:
            at = datetime.strptime(name.removesuffix(_BY_HAND), _NAME).replace(tzinfo=UTC)
        except ValueError:
            return None
        slot = cls(at, name.endswith(_BY_HAND))
        return slot if slot.name == name else None


def iso(moment: datetime) -> str:
    """An aware moment as UTC ISO text to the second, e.g. `2026-11-22T03:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> datetime:
    """What `iso` wrote.

    Raises:
        ValueError: it is something else.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
