"""Output shards of Beam steps: written whole or not at all, and reported by value.

A bundle that is run again writes the same bytes under the same names, so a retry is harmless. What
goes wrong inside a worker comes back as a report, not as an exception: a runner would turn that
into a trace of its own. What was read and written is held against what was asked, since a worker
may run elsewhere: under other code, or where it does not see this machine's files.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from bnpipe.data.durable import STAGING, replace_text, replacing, write_all
from bnpipe.data.environment import environment
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.records.examples import Batch, read_batches
from bnpipe.data.records.tfrecord import Bytes, frame

_SEEN = (
    "Beam workers elsewhere need BNPIPE_HOME under the same path; if none are, a file has changed: "
    "bnpipe run --force example_gen"
)


def _code() -> str:
    """A digest of our code, as it lies here."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    sources = [s for room in ("components", "data", "serving") for s in (root / room).rglob("*.py")]
    for source in sorted(sources):
        if not source.name.startswith("."):  # what an editor leaves beside a file
            digest.update(source.relative_to(root).as_posix().encode() + source.read_bytes())
    return f"code {digest.hexdigest()[:12]}" if sources else "code without sources"


_CODE = _code()  # when this is imported, not later: what is loaded is what lies there now


@functools.cache
def code_here() -> str:
    """Code and libraries of this process, in one line; workers of a run have the same."""
    return ", ".join([_CODE, *(f"{name} {v}" for name, v in environment().items())])


SAME_CODE = "give all workers this version of bnpipe and its lock file, and start them anew"


def other_code(host: str, received: str) -> str:
    """Tells in what a worker's code and libraries, as `code_here` says them, are others."""
    ours, theirs = code_here().split(", "), received.split(", ")
    here = ", ".join(part for part in ours if part not in theirs)
    there = ", ".join(part for part in theirs if part not in ours)
    return f"the Beam worker on {host} has other code: expected {here}, received {there}"


@dataclass(frozen=True)
class UnitReport:
    """The outcome of one unit of a worker's work.

    Attributes:
        unit: which unit, e.g. `train-00000`, or the file that it read.
        shards: number of records by shard path, relative to the artifact.
        counts: further numbers by name; they add up over units.
        cuts: the ink cuts that the unit was given.
        cut_images: number of train images that they are of.
        sizes: bytes by shard path, of what it wrote.
        error: why the unit failed; empty when it did not.
        hint: what to do about it.
        code: of the worker.
        host: where it ran.
    """

    unit: str
    shards: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    cuts: list[float] = field(default_factory=list)
    cut_images: int = 0
    sizes: dict[str, int] = field(default_factory=dict)
    error: str = ""
    hint: str = ""
    code: str = field(default_factory=code_here)
    host: str = field(default_factory=platform.node)

    @classmethod
    def failed(cls, unit: str, error: BnpipeError | OSError, hint: str = "") -> UnitReport:
        """The report of a unit that failed; `hint` is for bad data that does not say what to do."""
        if isinstance(error, OSError):
            return cls(unit, error=f"{unit}: {error}")
        return cls(unit, error=error.headline, hint=error.hint or hint)


def write_reports(reports: Iterable[UnitReport], path: Path) -> None:
    """Writes all reports of a pipeline into one file, for the process that started it."""
    text = json_text([asdict(r) for r in sorted(reports, key=lambda r: r.unit)])
    replace_text(path, text, durable=False)


def read_reports(
    path: Path,
    *,
    asked: Mapping[str, int] | None = None,
    folder: Path | None = None,
    log: logging.Logger | None = None,
) -> list[UnitReport]:
    """Reads and removes the file of `write_reports`.

    Args:
        path: the file.
        asked: number of records by unit, where units are files to be read whole.
        folder: the artifact that shards were written to.
        log: is told how much each host did.

    Raises:
        DataError: a unit failed, and the first one's reason; a worker has other code; they read
            something else than was asked, or wrote where this process does not see it.
    """
    if not path.exists():
        raise DataError(f"Beam's workers left no report in {path.parent}", hint=_SEEN)
    # Of other code they may be in another form.
    known, unknown = {f.name for f in fields(UnitReport)}, {"code": "unknown", "host": "?"}
    reports = [
        UnitReport(**{**unknown, **{k: v for k, v in stored.items() if k in known}})
        for stored in json.loads(path.read_text())
    ]
    path.unlink()
    for report in reports:
        if report.error:
            raise DataError(report.error, hint=report.hint)
        if report.code != code_here():
            raise DataError(other_code(report.host, report.code), hint=SAME_CODE)
    hosts: Counter[str] = Counter()
    for report in reports:
        hosts[report.host] += sum(report.shards.values())
    if log is not None:
        log.info("images by host: %s", ", ".join(f"{h} {n}" for h, n in sorted((+hosts).items())))
    if asked is not None:
        received: Counter[str] = Counter()
        for report in reports:
            received[report.unit] += sum(report.shards.values())
        for unit in sorted({*asked, *received}):
            check_seen(f"records of {unit}", received[unit], asked.get(unit, 0))
    for report in reports if folder else ():
        for name, size in report.sizes.items():
            file = Path(folder or "", name)
            if not file.is_file() or file.stat().st_size != size:
                raise DataError(
                    f"the Beam worker on {report.host} wrote {size} bytes to {file}, which are not "
                    "there",
                    hint=_SEEN,
                )
    return reports


def check_seen(what: str, received: int, expected: int) -> None:
    """Makes sure that workers saw all that there is of something.

    Raises:
        DataError: they did not.
    """
    if received != expected:
        raise DataError(f"Beam's workers saw {received} {what}, expected {expected}", hint=_SEEN)


def merged(reports: Iterable[UnitReport], what: str) -> dict[str, int]:
    """The `shards` or `counts` of all reports together, sorted by name; equal names add up."""
    total: Counter[str] = Counter()
    for report in reports:
        total.update(getattr(report, what))
    return dict(sorted(total.items()))


def remove_parts(folder: Path) -> None:
    """Removes what killed workers left below an artifact folder."""
    for part in folder.rglob(f"{STAGING}*"):
        part.unlink()


def shard_name(split: str, prefix: str, index: int, shards: int) -> str:
    """`Split-train/data_tfrecord-00000-of-00004`."""
    return f"Split-{split}/{prefix}-{index:05d}-of-{shards:05d}"


def read_shard(path: Path, expected: int) -> Iterator[Batch]:
    """Reads a shard of tf.Examples in batches of at most about 1 MB.

    Args:
        path: the shard.
        expected: number of records that it was written with.

    Raises:
        DataError: as `read_batches`; or a record has no feature, or their number is another.
    """
    received = 0
    for batch in read_batches(path):
        if not batch.columns:
            raise DataError(
                f"{path} at offset {batch.offset}: expected a tf.Example with features, "
                "received one without"
            )
        received += len(next(iter(batch.columns.values())))
        yield batch
    if received != expected:
        raise DataError(
            f"{path}: expected {expected} records, received {received}: the file is cut short"
        )


class ShardWriter:
    """Writes one shard; its name appears only when the `with` block ends without an error."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.count = 0
        self.size = 0
        self._path = folder / name
        self._file: int | None = None
        self._replacing = ExitStack()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The store makes it durable when it commits the artifact.
        self._file = self._replacing.enter_context(replacing(self._path, durable=False))
        return self

    def write(self, records: Bytes) -> None:
        """Adds serialized records, uint8[N, L].

        Raises:
            OSError: they cannot be written.
        """
        if self._file is None:
            raise RuntimeError("ShardWriter.write outside its with block")
        framed = frame(records).reshape(-1).data
        write_all(self._file, framed)
        self.count += len(records)
        self.size += framed.nbytes

    def __exit__(self, *raised: Any) -> None:
        self._file = None
        self._replacing.__exit__(*raised)
