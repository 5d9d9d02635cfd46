"""All runs and versions of a home as one page: what was measured over time, and what became of it.

It is read from the runs' summaries and reports, the ledgers of the served folders and the
schedule's estimates, hardly ever from objects: retention leaves it whole. What cannot be read is
left out, and the page names it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnpipe.data.durable import replace_text
from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.engine.errors import ConfigError, StoreError
from bnpipe.pipeline.engine.runs import RunFolder, summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report import FILE, OVERVIEW
from bnpipe.pipeline.report.evaluation import Measured, RunEvaluation, measured
from bnpipe.pipeline.report.page import Headline, Tile, headline, template
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger

Json = Mapping[str, Any]

ESTIMATES = Path("schedule", "estimates.jsonl")
_MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OSError, OverflowError)
_EVENTS = {
    "published": ("good", "live", "{why}"),
    "listed": ("neutral", "given to servers", "for a {purpose}"),
    "promoted": ("good", "promoted", "label {label} names it"),
    "rolled_back": ("bad", "rolled back", "back to v{to}: {reason}"),
    "withdrawn": ("bad", "withdrawn", "{reason}"),
    "abandoned": ("bad", "abandoned", "its folder never came"),
}
"""Mood, word and sentence of those events of a ledger that are shown."""


@dataclass(frozen=True)
class Run:
    """What one run measured.

    Attributes:
        id: its number.
        at: when it began.
        dataset: what it was about.
        headline: how it ended.
        seconds: how long it took.
        steps: seconds by step, of those that were not answered from the cache.
        accuracy: of the candidate on test images; None when nothing was evaluated.
        differences: that minus the accuracy of `baseline` and `champion`.
        drift: the data gate's `worst_drift`; None when it took no part or does not say.
        data_passed: whether the data gate let the data pass.
        version: what it published.
        page: its report, if one was drawn.
    """

    id: str
    at: datetime
    dataset: str
    headline: Headline
    seconds: float
    steps: Mapping[str, float]
    accuracy: Measured | None
    differences: Mapping[str, Measured]
    drift: float | None
    data_passed: bool
    version: int | None
    page: Path | None


@dataclass(frozen=True)
class Event:
    """Something that happened to a version.

    Attributes:
        at: when.
        headline: what, and why.
        version: its number.
        model: the name under which it is served.
    """

    at: datetime
    headline: Headline
    version: int
    model: str


@dataclass(frozen=True)
class Estimate:
    """How good the live version was, as far as its answers tell.

    Attributes:
        at: when it was estimated.
        version: the live version.
        requests: how many answers it rests on.
        accuracy: the estimate, and its interval.
        drift: whether the requests were unlike what the version was trained on.
        sentence: the same in words.
    """

    at: datetime
    version: int
    requests: int
    accuracy: Measured
    drift: bool
    sentence: str


@dataclass
class Overview:
    """All that is drawn; from old to new.

    Attributes:
        runs: those that can be read.
        events: what the ledgers tell.
        estimates: of the live accuracy.
        unreadable: what is left out.
    """

    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def versions(self) -> list[tuple[datetime, str]]:
        """When each version was published or given to servers for the first time, and its name."""
        times: dict[tuple[str, int], datetime] = {}
        for event in self.events:
            times.setdefault((event.model, event.version), event.at)
        if not times:  # the served folder is elsewhere, or gone
            times = {(r.dataset, r.version): r.at for r in self.runs if r.version is not None}
        return sorted((at, f"v{version}") for (_, version), at in times.items())


def gather(store: Store) -> Overview:
    """Read all that is there of a home.

    Raises:
        ConfigError: there is no run yet.
    """
    found, folders = Overview(), set((store.home / "served").glob("*"))
    for summary in summaries(store):
        try:
            report = _report(store, summary)
            found.runs.append(_run(store, report))
            pushed = report.get("pushed") or {}
            if pushed.get("base_path"):
                folders.add(Path(pushed["base_path"]))
        except _MALFORMED:
            found.unreadable.append(f"run {summary['id']}")
    if not found.runs and not found.unreadable:
        raise ConfigError(f"there is no run in {store.home} yet", hint="start one: bnpipe run")
    for folder in sorted({folder.resolve() for folder in folders}):
        try:
            found.events.extend(_events(folder))
        except (ServingError, *_MALFORMED):
            found.unreadable.append(str(folder / ledger.LEDGER))
    with suppress(OSError):
        lines = read_plain(store.home / ESTIMATES).splitlines()
        found.estimates.extend(estimate for line in lines for estimate in _estimate(line))
    for series in (found.runs, found.events, found.estimates):
        series.sort(key=lambda made: made.at)
    return found


def write_overview(store: Store, path: Path | None = None) -> tuple[Path, Overview]:
    """Draw the page, by default into the home; the same home gives the same bytes.

    Raises:
        ConfigError: there is no run yet, or the file cannot be written.
    """
    path, found = path or store.home / OVERVIEW, gather(store)
    try:
        replace_text(path, render(found, path.parent))
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror}",
            hint="bnpipe report --all --out FILE writes it elsewhere",
        ) from None
    return path, found


def render(found: Overview, folder: Path) -> str:
    """The whole page as text; it leads to the pages of runs as seen from its folder."""
    from bnpipe.pipeline.report.overview_charts import charts

    page = template("overview.html.j2").render(
        datasets=sorted({run.dataset for run in found.runs}),
        newest=found.runs[-1] if found.runs else None,
        tiles=list(_tiles(found)),
        unreadable=found.unreadable,
        charts=list(charts(found)),
        happened=_happened(found, folder),
    )
    return page.encode("utf-8", "replace").decode()


def _report(store: Store, summary: Json) -> Json:
    """A run's report; its summary where there is none, or none that can be read."""
    with suppress(StoreError):
        return RunFolder(store.runs / summary["id"]).report()
    return summary


def _run(store: Store, report: Json) -> Run:
    folder = RunFolder(store.runs / report["id"])
    evaluation = RunEvaluation(report.get("evaluation") or {}, {})
    models = evaluation.metrics.get("models", {})
    gate: Json = next((s for s in report["steps"] if s["component"] == "example_validator"), {})
    page = folder.path / FILE
    said = headline(report)
    if report["status"] == "running":
        said = Headline("neutral", "Running", "still at work")
    return Run(
        id=folder.id,
        at=datetime.fromtimestamp(report["started"], UTC),
        dataset=str(report.get("dataset", "")),
        headline=said,
        seconds=float(report.get("seconds", 0.0)),
        steps={s["name"]: float(s["seconds"]) for s in report["steps"] if s["action"] == "run"},
        accuracy=measured(models["candidate"], "accuracy") if "candidate" in models else None,
        differences=evaluation.differences,
        drift=gate.get("facts", {}).get("worst_drift"),
        data_passed=(gate.get("verdict") or {}).get("passed", True),
        version=(report.get("pushed") or {}).get("version"),
        page=page if page.exists() else None,
    )


def _events(base: Path) -> Iterator[Event]:
    """What a ledger tells that a reader of the page asks for.

    Raises:
        ServingError: it cannot be read.
    """
    entries: dict[int, Json] = {}
    for line in map(json.loads, ledger.whole_lines(base).splitlines()):
        version = int(line["version"])
        if line["event"] == "reserved":
            entries[version] = line
        if line["event"] in _EVENTS:
            mood, word, sentence = _EVENTS[line["event"]]
            entry = entries.get(version, {})
            source = entry.get("provenance", {})
            made = f"run {source.get('run', '?')}: {source.get('verdict', '')}"
            why = f"forced: {entry['force']}" if entry.get("force") else made
            said = Headline(mood, word, sentence.format(**{**line, "why": why}))
            yield Event(_time(line["at"]), said, version, str(entry.get("model_name", base.name)))


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def _estimate(line: bytes) -> Iterator[Estimate]:
    """One line of the estimates; nothing of one that is torn or of another kind."""
    with suppress(*_MALFORMED):
        told = json.loads(line)
        accuracy, low, high = (float(told[key]) for key in ("accuracy", "low", "high"))
        version, requests, drift = (int(told[key]) for key in ("version", "requests", "drift"))
        measured = Measured(accuracy, (low, high))
        if math.isfinite(accuracy + low + high):
            at, sentence = _time(told["time"]), str(told["sentence"])
            yield Estimate(at, version, requests, measured, bool(drift), sentence)


def _tiles(found: Overview) -> Iterator[Tile]:
    moods = [run.headline.mood for run in found.runs]
    yield Tile("Runs", str(len(moods)), f"{moods.count('good')} passed, {moods.count('bad')} not")
    evaluated = [run for run in found.runs if run.accuracy is not None]
    if evaluated:
        yield Tile(f"Accuracy, run {evaluated[-1].id}", *str(evaluated[-1].accuracy).split(" ", 1))
    if found.versions:
        taken_back = sum(event.headline.mood == "bad" for event in found.events)
        yield Tile("Versions", str(len(found.versions)), f"{taken_back} taken back")
    if found.estimates:
        newest = found.estimates[-1]
        yield Tile("Estimated live", *str(newest.accuracy).split(" ", 1))


def _happened(found: Overview, folder: Path) -> Sequence[Json]:
    """Runs and events together, newest first."""
    models = {event.model for event in found.events}
    rows: list[tuple[datetime, Json]] = []
    for run in found.runs:
        link = run.page and quote(Path(os.path.relpath(run.page, folder)).as_posix())
        rows.append((run.at, {"of": f"run {run.id}", "link": link, "headline": run.headline}))
    for event in found.events:
        name = f"v{event.version}" if len(models) == 1 else f"{event.model} v{event.version}"
        rows.append((event.at, {"of": name, "link": None, "headline": event.headline}))
    rows.sort(key=lambda row: row[0], reverse=True)
    return [{"at": f"{at:%Y-%m-%d %H:%M}", **row} for at, row in rows]
