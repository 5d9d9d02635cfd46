"""How good served versions were thought to be over time: `<home>/schedule/estimates.jsonl`.

One line of JSON for every look at the logged requests, oldest first.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from bnpipe.data.durable import fsync, replace_bytes, write_all
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain

MOST = 2000
"""So many lines are kept, or up to twice as many until the older ones are dropped."""
_TYPES = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}


@dataclass(frozen=True)
class Estimate:
    """A version on logged requests.

    Attributes:
        time: of the look, ISO 8601 in UTC.
        version: the live version.
        requests: number of images that it was asked for, the newest ones.
        accuracy: the estimated share of right answers.
        low, high: its 99 % interval.
        drift: whether its answers are others than those of its evaluation.
        sentence: all of that for people.
        model: digest of the Model that the version was published from: a home may publish several
            data sets, each with a version of that number.
    """

    time: str
    version: int
    requests: int
    accuracy: float
    low: float
    high: float
    drift: bool
    sentence: str
    model: str


def estimates(home: Path) -> list[Estimate]:
    """All that are kept, oldest first; lines that cannot be read are passed over."""
    return [estimate for estimate in map(_parsed, _readable(home)) if estimate is not None]


def newest(home: Path, version: int | None, model: str | None) -> Estimate | None:
    """The last one of a version that was published from a model; None if there is none."""
    parsed = map(_parsed, reversed(_readable(home)))
    asked = (version, model)
    return next((e for e in parsed if e is not None and (e.version, e.model) == asked), None)


def append(home: Path, estimate: Estimate) -> None:
    """Add one; it is durable on return. One process at a time does: the tick's.

    Raises:
        OSError: the disk refuses.
    """
    path = _file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines(home)
    if len(lines) >= 2 * MOST:
        lines = lines[-MOST:]
        replace_bytes(path, b"".join(line + b"\n" for line in lines))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        # What a killed process wrote of a line, behind the last newline, is not gone on with.
        os.ftruncate(descriptor, sum(len(line) + 1 for line in lines))
        write_all(descriptor, f"{json_text(asdict(estimate))}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fsync(path.parent)


def flaw(home: Path) -> str:
    """What keeps the file, or some of its lines, from being read; empty if nothing does."""
    try:
        lines = _lines(home)
    except OSError as error:
        return f"{_file(home)} cannot be read: {error.strerror}"
    odd = sum(_parsed(line) is None for line in lines)
    return f"{odd} of {len(lines)} lines of {_file(home)} cannot be read" if odd else ""


def _parsed(line: bytes) -> Estimate | None:
    with suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
        value = json.loads(line)
        one = Estimate(**{field.name: value[field.name] for field in fields(Estimate)})
        typed = all(type(getattr(one, f.name)) in _TYPES[str(f.type)] for f in fields(Estimate))
        finite = typed and math.isfinite(one.accuracy + one.low + one.high)
        time = datetime.fromisoformat(one.time)
        dated = time.tzinfo is not None and 1970 <= time.year < 9000
        if finite and dated and one.sentence.isprintable():
            return one
    return None


def _readable(home: Path) -> list[bytes]:
    """None of a file that cannot be read: that is told by `flaw`, and hides nothing else."""
    try:
        return _lines(home)
    except OSError:
        return []


def _lines(home: Path) -> list[bytes]:
    """The whole lines; what follows the last newline is no line."""
    try:
        return read_plain(_file(home)).split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _file(home: Path) -> Path:
    return home / "schedule" / "estimates.jsonl"
