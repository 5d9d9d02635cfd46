"""The index: one SQLite file that answers what scanning the files would, only faster.

It holds nothing that the files do not: when the counts disagree it is rebuilt. Journal mode is
DELETE, not WAL: SQLite before 3.51.3 can corrupt a WAL database that two processes write.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from pipeline.store import StepRecord, Store

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
        with self._open() as db:
            row = db.execute(
                "SELECT key FROM steps WHERE name = ? ORDER BY finished DESC LIMIT 1", (name,)
            ).fetchone()
        if row is None:
            return None
        path = self._store.home / "steps" / f"{row[0]}.json"
        try:
            return StepRecord.parse(path.read_text())
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def runs(self) -> list[dict[str, Any]]:
        """Summaries (`run.json`) of all runs, newest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT summary FROM runs ORDER BY length(id) DESC, id DESC"
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def add_step(self, record: StepRecord) -> None:
        """Index a committed step record."""
        self._add(lambda db: _add_step(db, record))

    def add_run(self, summary: dict[str, Any]) -> None:
        """Index a run's summary; replaces an older one of the same run."""
        self._add(lambda db: _add_run(db, summary))

    def rebuild(self) -> None:
        """Make the index anew from the files."""
        self._path.unlink(missing_ok=True)
        with closing(self._connect()) as db, db:
            db.executescript(_SCHEMA)
            for record in self._store.records():
                _add_step(db, record)
            for summary in _summaries(self._store):
                _add_run(db, summary)

    def _add(self, insert: Callable[[sqlite3.Connection], None]) -> None:
        """Insert one row; the file that it stands for is there already."""
        try:
            with closing(self._connect()) as db, db:
                insert(db)
        except sqlite3.DatabaseError:  # no tables yet, or damaged
            self.rebuild()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        if not self._store.home.is_dir():
            with closing(sqlite3.connect(":memory:")) as db:
                db.executescript(_SCHEMA)
                yield db
            return
        if not self._trusted():
            self.rebuild()
        with closing(self._connect()) as db:
            yield db

    def _trusted(self) -> bool:
        """Whether the index agrees with the files in number (both are append-only between gc's)."""
        if not self._path.exists():
            return False
        try:
            with closing(self._connect()) as db:
                steps = db.execute("SELECT count(*) FROM steps").fetchone()[0]
                runs = db.execute("SELECT count(*) FROM runs").fetchone()[0]
        except sqlite3.DatabaseError:
            return False
        home = self._store.home
        return bool(
            steps == sum(1 for _ in (home / "steps").glob("*.json"))
            and runs == sum(1 for _ in (home / "runs").glob("*/run.json"))
        )

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, timeout=10)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = EXTRA")
        return db


def _summaries(store: Store) -> Iterator[dict[str, Any]]:
    for path in sorted(store.runs.glob("*/run.json")):
        try:
            yield json.loads(path.read_text())
        except ValueError:
            yield {"id": path.parent.name, "status": "unreadable"}


def _add_step(db: sqlite3.Connection, record: StepRecord) -> None:
    row = (record.key, record.name, record.run, record.finished)
    db.execute("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?)", row)


def _add_run(db: sqlite3.Connection, summary: dict[str, Any]) -> None:
    row = (summary["id"], summary["status"], json.dumps(summary))
    db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?)", row)
