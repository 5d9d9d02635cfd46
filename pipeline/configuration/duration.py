"""Durations as people write them: a number and a unit, `90m`, `6h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
PATTERN = r"^[1-9][0-9]{0,5}[smhdw]$"
_SHAPE = re.compile(PATTERN)


def parse_duration(text: str) -> timedelta:
    """`90m` as a time span.

    Raises:
        ValueError: it is not a number with one of the units s, m, h, d, w.
    """
    if not _SHAPE.match(text):
        raise ValueError(f"expected a number with s, m, h, d or w such as 90m, received {text!r}")
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])})


def in_words(span: timedelta) -> str:
    """A time span for people, in its largest unit: `3 days`, `1 hour`, `40 seconds`."""
    seconds = max(span.total_seconds(), 0.0)
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size or seconds == size:
            number = seconds / size
            rounded = f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"
            return f"{rounded} {name}{'' if rounded == '1' else 's'}"
    return f"{seconds:.0f} second{'' if round(seconds) == 1 else 's'}"
