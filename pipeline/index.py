"""The index: one SQLite file that answers what scanning the files would, only faster.

It holds nothing that the files do not. Whoever holds the home's lock writes it, and rebuilds it
when the counts disagree; readers that meet a disagreement or damage scan the files instead and
leave the index alone, so two processes never write at once. Journal mode is DELETE, not WAL:
SQLite before 3.51.3 can corrupt a WAL database that two processes write.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bnpipe.pipeline.store import StepRecord, Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (key TEXT PRIMARY KEY, name TEXT, run TEXT, finished REAL);
CREATE INDEX IF NOT EXISTS steps_by_name ON steps (name, finished);
CREATE TABLE IF NOT EXISTS runs (id TEXT PRIMARY KEY, status TEXT, summary TEXT);
PRAGMA user_version = 1;
"""


class Index:
    """The index of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.home / "index.db"

    def latest(self, name: str) -> StepRecord | None:
        """The newest record of a step name: what reasons are told against."""
        sql = "SELECT key FROM steps WHERE name = ? ORDER BY finished DESC LIMIT 1"
        rows = self._query(sql, name)
        if not rows:
            return None
        path = self._store.home / "steps" / f"{rows[0][0]}.json"
        try:
            return StepRecord.parse(path.read_text())
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def runs(self) -> list[dict[str, Any]]:
        """Summaries (`run.json`) of all runs, newest first."""
        rows = self._query("SELECT summary FROM runs ORDER BY length(id) DESC, id DESC")
        return [json.loads(row[0]) for row in rows]

    def add_step(self, record: StepRecord) -> None:
        """Index a committed step record."""
        self._add(lambda db: _add_step(db, record))

    def add_run(self, summary: dict[str, Any]) -> None:
        """Index a run's summary; replaces an older one of the same run."""
        self._add(lambda db: _add_run(db, summary))

    def repair(self) -> None:
        """Rebuild the index if it disagrees with the files; the caller holds the lock."""
        try:
            with closing(self._connect()) as db:
                agrees = self._agrees(db)
        except sqlite3.DatabaseError:
            agrees = False
        if not agrees:
            self.rebuild()

    def rebuild(self) -> None:
        """Make the index anew from the files; the caller holds the lock."""
        self._path.unlink(missing_ok=True)
        try:
            with closing(self._connect()) as db, db:
                self._fill(db)
        except sqlite3.DatabaseError:  # the disk is full: without an index, files are scanned
            self._path.unlink(missing_ok=True)

    def _add(self, insert: Callable[[sqlite3.Connection], None]) -> None:
        """Insert one row; the file that it stands for is there already."""
        try:
            with closing(self._connect()) as db, db:
                insert(db)
        except sqlite3.DatabaseError:  # no tables yet, damaged, or no room
            self.rebuild()

    def _query(self, sql: str, *values: str) -> list[tuple[Any, ...]]:
        """Ask the index, or one made in memory when it disagrees with the files."""
        try:
            address = f"{self._path.as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=10)) as db:
                if self._agrees(db):
                    return db.execute(sql, values).fetchall()
        except sqlite3.DatabaseError:
            pass
        with closing(sqlite3.connect(":memory:")) as db:
            self._fill(db)
            return db.execute(sql, values).fetchall()

    def _agrees(self, db: sqlite3.Connection) -> bool:
        """Whether an index has as many rows as there are files (append-only between gc's)."""
        (steps,), (runs,) = db.execute(
            "SELECT count(*) FROM steps UNION ALL SELECT count(*) FROM runs"
        ).fetchall()
        home = self._store.home
        return bool(
            steps == sum(1 for _ in (home / "steps").glob("*.json"))
            and runs == sum(1 for _ in (home / "runs").glob("*/run.json"))
        )

    def _fill(self, db: sqlite3.Connection) -> None:
        db.executescript(_SCHEMA)
        for record in self._store.records():
            _add_step(db, record)
        for summary in _summaries(self._store):
            _add_run(db, summary)

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=10)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = EXTRA")
        return db


def read_summary(path: Path) -> dict[str, Any]:
    """A run's summary, from `run.json` or `report.json`.

    Raises:
        ValueError: it is not one.
    """
    value = json.loads(path.read_text())
    if not (isinstance(value, dict) and {"id", "status", "steps"} <= value.keys()):
        raise ValueError("it is not the summary of a run")
    return value


def _summaries(store: Store) -> Iterator[dict[str, Any]]:
    for path in sorted(store.runs.glob("*/run.json")):
        try:
            yield read_summary(path)
        except ValueError:
            yield {"id": path.parent.name, "status": "unreadable"}


def _add_step(db: sqlite3.Connection, record: StepRecord) -> None:
    row = (record.key, record.name, record.run, record.finished)
    db.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)", row)


def _add_run(db: sqlite3.Connection, summary: dict[str, Any]) -> None:
    row = (summary["id"], summary["status"], json.dumps(summary))
    db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)
