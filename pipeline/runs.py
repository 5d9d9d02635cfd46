"""Run folders: what was asked, what was planned, what happened.

runs/<id>/config.yaml    the resolved configuration
          plan.json      what was planned, with reasons
          events.jsonl   what happened, as it happened
          run.json       the summary; `status` is `running` until the run ends
          report.json    the summary with config, metrics and rules: the report's source
          logs/<step>.log
          diff.patch     uncommitted changes of the checkout, if there were any
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.pipeline.errors import ConfigError, StoreError
from bnpipe.pipeline.evaluation import RunEvaluation
from bnpipe.pipeline.files import write_json
from bnpipe.pipeline.index import Index, read_summary
from bnpipe.pipeline.store import Store


@dataclass(frozen=True)
class RunFolder:
    """One run's folder."""

    path: Path

    @property
    def id(self) -> str:
        """The run's number, four digits or more."""
        return self.path.name

    def log(self, step: str) -> Path:
        """A step's log file."""
        return self.path / "logs" / f"{step}.log"

    def summary(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            StoreError: it is damaged.
        """
        return _read(self.path / "run.json")

    def report(self) -> dict[str, Any]:
        """`report.json`; the summary alone for a run that was killed.

        Raises:
            StoreError: it is damaged.
        """
        path = self.path / "report.json"
        return _read(path) if path.exists() else self.summary()

    @property
    def evaluation(self) -> RunEvaluation | None:
        """What the evaluator found; None when none took part."""
        return RunEvaluation.of(self.report())

    def _repr_html_(self) -> str:
        from bnpipe.pipeline.report.notebook import run_card

        return run_card(self)


def new_run(store: Store) -> RunFolder:
    """Make the next run's folder; the caller holds the lock."""
    taken = [int(p.name) for p in store.runs.iterdir() if _is_number(p.name)]
    folder = store.runs / f"{max(taken, default=0) + 1:04d}"
    folder.mkdir()
    return RunFolder(folder)


def find_run(store: Store, name: str) -> RunFolder:
    """A run by number (`3`, `0003`) or by the word `latest`.

    Raises:
        ConfigError: there is no such run.
    """
    # A run that was killed before it had written its record left nothing to be found.
    found = (p.parent for p in store.runs.glob("*/run.json"))
    taken = sorted((p for p in found if _is_number(p.name)), key=lambda p: int(p.name))
    if not taken:
        raise ConfigError(f"there is no run in {store.home} yet", hint="start one: bnpipe run")
    if name == "latest":
        return RunFolder(taken[-1])
    for path in taken:
        if _is_number(name) and int(path.name) == int(name):
            return RunFolder(path)
    raise ConfigError(f"there is no run {name!r}", hint="list them: bnpipe runs")


def newest_summaries(store: Store, count: int = 200) -> Iterator[dict[str, Any]]:
    """Summaries of the newest runs, newest first; unreadable ones are left out.

    Read from the files as far as they are asked for, because there may be years of them.
    """
    try:
        numbers = [int(p.name) for p in store.runs.iterdir() if _is_number(p.name)]
    except FileNotFoundError:
        return
    for number in sorted(numbers, reverse=True)[:count]:
        try:
            yield read_summary(store.runs / f"{number:04d}" / "run.json")
        except (OSError, ValueError):
            continue


def close_dead_runs(store: Store) -> None:
    """Mark runs that say `running` as killed; the caller holds the lock, so none is alive."""
    index = Index(store)
    index.repair()
    for listed in index.runs():
        if listed["status"] != "running":
            continue
        # A run that was killed between its last two writes has ended in its file, not in the index.
        path = store.runs / listed["id"] / "run.json"
        try:
            summary = read_summary(path)
        except ValueError:  # one damaged record must not keep the next run from starting
            summary = {"id": listed["id"], "status": "unreadable"}
        if summary["status"] == "running":
            summary["status"] = "killed"
            write_json(path, summary)
        index.add_run(summary)


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_summary(path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read: {error}", hint=f"bnpipe does without it: rm {path}"
        ) from error


def _is_number(name: str) -> bool:
    """Whether `int` takes it and no other digits than 0 to 9 are meant."""
    return name.isascii() and name.isdecimal()
