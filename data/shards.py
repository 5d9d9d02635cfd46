"""Output shards of Beam steps: written whole or not at all, and reported by value.

A bundle that is run again writes the same bytes under the same names, so a retry is harmless. What
goes wrong inside a worker comes back as a report, not as an exception: a runner would turn that
into a trace of its own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.tfrecord import Bytes, frame

_PART = ".part-"


@dataclass(frozen=True)
class UnitReport:
    """What a worker tells about one unit of work.

    Attributes:
        unit: which unit, e.g. `train-00000`.
        shards: number of records by shard path, relative to the artifact.
        counts: further numbers by name; they add up over units.
        cuts: the ink cuts that the unit was given.
        error: why the unit failed; empty when it did not.
        hint: what to do about it.
    """

    unit: str
    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    cuts: list[float] = field(default_factory=list)
    error: str = ""
    hint: str = ""

    @classmethod
    def failed(cls, unit: str, error: BnpipeError) -> UnitReport:
        """The report of a unit that failed."""
        return cls(unit, error=error.headline, hint=error.hint)


def write_reports(reports: Iterable[UnitReport], path: Path) -> None:
    """Writes all reports of a pipeline into one file, for the process that started it."""
    part = path.with_name(f"{_PART}{path.name}-{uuid.uuid4().hex}")
    part.write_text(json.dumps([asdict(r) for r in sorted(reports, key=lambda r: r.unit)]))
    part.replace(path)


def read_reports(path: Path) -> list[UnitReport]:
    """Reads and removes the file of `write_reports`.

    Raises:
        DataError: a unit failed; the first one's reason.
    """
    reports = [UnitReport(**stored) for stored in json.loads(path.read_text())]
    path.unlink()
    for report in reports:
        if report.error:
            raise DataError(report.error, hint=report.hint)
    return reports


def merged(reports: Iterable[UnitReport], what: str) -> dict[str, int]:
    """The `shards` or `counts` of all reports together, sorted by name; equal names add up."""
    total: dict[str, int] = {}
    for report in reports:
        values: Mapping[str, int] = getattr(report, what)
        for name, count in values.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def remove_parts(folder: Path) -> None:
    """Removes what killed workers left below an artifact folder."""
    for part in folder.rglob(f"{_PART}*"):
        part.unlink()


def shard_name(split: str, prefix: str, index: int, shards: int) -> str:
    """`Split-train/data_tfrecord-00000-of-00004`."""
    return f"Split-{split}/{prefix}-{index:05d}-of-{shards:05d}"


class ShardWriter:
    """Writes one shard; its name appears only when the `with` block ends without an error."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.count = 0
        self._path = folder / name
        self._part = self._path.with_name(f"{_PART}{self._path.name}-{uuid.uuid4().hex}")
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("wb")
        return self

    def write(self, records: Bytes) -> None:
        """Adds serialized records, uint8[N, L]."""
        if self._file is None:
            raise RuntimeError("ShardWriter.write outside its with block")
        self._file.write(frame(records).data)
        self.count += len(records)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if self._file is not None:
            self._file.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)
