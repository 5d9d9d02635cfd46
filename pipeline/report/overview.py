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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bnpipe.data.durable import replace_text
from bnpipe.pipeline import estimates
from bnpipe.pipeline.engine.errors import ConfigError, StoreError
from bnpipe.pipeline.engine.runs import RunFolder, summaries
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.report import FILE, OVERVIEW
from bnpipe.pipeline.report.evaluation import Measured, RunEvaluation, measured
from bnpipe.pipeline.report.page import Headline, Tile, headline, template
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger

Json = Mapping[str, Any]

_MALFORMED = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OSError,
    OverflowError,
    RuntimeError,
)
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
        model: the name under which it is served; the first digits of its digest if no ledger tells.
        requests: how many answers it rests on.
        accuracy: the estimate, and its interval.
        drift: whether the requests were unlike what the version was trained on.
        sentence: the same in words.
    """

    at: datetime
    version: int
    model: str
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
        live: the live version by model.
        unreadable: what is left out.
    """

    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    estimates: list[Estimate] = field(default_factory=list)
    live: dict[str, int] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    @cached_property
    def _models(self) -> set[str]:
        return {e.model for e in self.events} | {e.model for e in self.estimates}

    def name(self, made: Event | Estimate) -> str:
        """Its version, and the model where there are several."""
        return f"{made.model} v{made.version}" if len(self._models) > 1 else f"v{made.version}"

    @property
    def versions(self) -> dict[str, datetime]:
        """When each version was published or given to servers for the first time."""
        times: dict[str, datetime] = {}
        for event in self.events:
            if event.headline.mood != "bad":
                times.setdefault(self.name(event), event.at)
        return times


def gather(store: Store) -> Overview:
    """Read all that is there of a home.

    Raises:
        ConfigError: there is no run yet.
    """
    found, folders, models = Overview(), dict[Path, list[Event]](), dict[str, str]()
    for summary in summaries(store):
        try:
            report = _report(store, summary)
            run, pushed = _run(store, report), report.get("pushed") or {}
            if run.version is not None and pushed.get("base_path"):
                said = Headline("good", "pushed", f"by run {run.id}")
                folder = Path(pushed["base_path"]).resolve()  # by default named for the model
                event = Event(run.at, said, run.version, folder.name)
                folders.setdefault(folder, []).append(event)
            found.runs.append(run)
            if report is summary:
                found.unreadable.append(f"the report of run {run.id}")
        except _MALFORMED:
            found.unreadable.append(f"run {summary['id']}")
    if not found.runs and not found.unreadable:
        raise ConfigError(f"there is no run in {store.home} yet", hint="start one: bnpipe run")
    for folder in (store.home / "served").glob("*"):
        try:
            folders.setdefault(folder.resolve(), [])
        except _MALFORMED:  # a link to itself
            found.unreadable.append(str(folder))
    unknown: list[Event] = []
    for folder, pushes in sorted(folders.items()):
        events: list[Event] = []
        try:
            lines = ledger.whole_lines(folder)
            history = ledger.parse(lines, str(folder))
            newest = history.newest()
            model = str(newest.model_name) if newest else folder.name
            for entry in history.entries.values():
                models[entry.provenance.get("inputs", {}).get("model", "")] = model
            if "stable" in history.labels:
                found.live[model] = history.labels["stable"]
            events = list(_events(model, lines, history))
        except (ServingError, *_MALFORMED):
            found.unreadable.append(str(folder / ledger.LEDGER))
        found.events.extend(events)
        unknown.extend(() if events else pushes)
    known = {event.model for event in found.events}  # not so of a ledger that is gone
    found.events.extend(event for event in unknown if event.model not in known)
    found.estimates.extend(_estimate(told, models) for told in estimates.estimates(store.home))
    found.unreadable.extend(filter(None, [estimates.flaw(store.home)]))
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
    try:
        return RunFolder(store.runs / summary["id"]).report()
    except StoreError:
        return summary


def _run(store: Store, report: Json) -> Run:
    folder = RunFolder(store.runs / report["id"])
    evaluation = RunEvaluation(report.get("evaluation") or {}, {})
    models = evaluation.metrics.get("models", {})
    gate: Json = next((s for s in report["steps"] if s["component"] == "example_validator"), {})
    page, version = folder.path / FILE, (report.get("pushed") or {}).get("version")
    said = headline(report)
    if report["status"] == "running":
        said = Headline("neutral", "Running", "still at work")
    return Run(
        id=folder.id,
        at=_time(report["started"]),
        dataset=str(report.get("dataset", "")),
        headline=said,
        seconds=float(report.get("seconds", 0.0)),
        steps={
            str(s["name"]): float(s["seconds"]) for s in report["steps"] if s["action"] == "run"
        },
        accuracy=_share(measured(models.get("candidate", {}), "accuracy")),
        differences={k: v for k, of in evaluation.differences.items() if (v := _share(of))},
        drift=_number(gate.get("facts", {}).get("worst_drift")),
        data_passed=(gate.get("verdict") or {}).get("passed", True),
        version=None if version is None else int(version),
        page=page if page.exists() else None,
    )


def _number(told: Any) -> float | None:
    """None of what was not measured, or came to no number."""
    return None if told is None or not math.isfinite(float(told)) else float(told)


def _share(made: Measured) -> Measured | None:
    """None of what was not measured; without its interval where that has no ends."""
    value, ends = _number(made.value), [_number(end) for end in made.interval or ()]
    low, high = ends or (None, None)
    if value is None:
        return None
    return Measured(value, None if low is None or high is None else (low, high))


def _events(model: str, lines: bytes, history: ledger.History) -> Iterator[Event]:
    """What a ledger tells that a reader of the page asks for."""
    for line in map(json.loads, lines.splitlines()):
        version = int(line["version"])
        if line["event"] in _EVENTS:
            mood, word, sentence = _EVENTS[line["event"]]
            entry = history.entry(version)
            source = entry.provenance if entry else {}
            made = f"run {source.get('run', '?')}: {source.get('verdict', '')}"
            why = f"forced: {entry.force}" if entry and entry.force else made
            said = Headline(mood, word, sentence.format(**{**line, "why": why}))
            yield Event(_time(line["at"]), said, version, model)


def _time(told: str | float) -> datetime:
    """From ISO 8601 or seconds.

    Raises:
        ValueError, OverflowError: it is none, or none from which an axis can be drawn.
    """
    text = told if isinstance(told, str) else datetime.fromtimestamp(told, UTC).isoformat()
    at = datetime.fromisoformat(text)
    at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    if not 1970 <= at.year < 9000:
        raise ValueError(f"{told} is no time of a run")
    return at


def _estimate(told: estimates.Estimate, models: Mapping[str, str]) -> Estimate:
    """As it is drawn; `models` are names by digest."""
    model, share = models.get(told.model, told.model[:8]), (told.low, told.high)
    accuracy = Measured(told.accuracy, share)
    at = _time(told.time)
    return Estimate(at, told.version, model, told.requests, accuracy, told.drift, told.sentence)


def _tiles(found: Overview) -> Iterator[Tile]:
    moods = [run.headline.mood for run in found.runs]
    yield Tile("Runs", str(len(moods)), f"{moods.count('good')} passed, {moods.count('bad')} not")
    evaluated = [run for run in found.runs if run.accuracy is not None]
    if evaluated:
        yield Tile(f"Accuracy, run {evaluated[-1].id}", *str(evaluated[-1].accuracy).split(" ", 1))
    if found.versions:
        # A number that was abandoned was no version.
        taken_back = {found.name(e) for e in found.events if e.headline.mood == "bad"}
        taken_back &= found.versions.keys()
        yield Tile("Versions", str(len(found.versions)), f"{len(taken_back)} taken back")
    for live in sorted(found.live.items()):
        for made in [e for e in found.estimates if (e.model, e.version) == live][-1:]:
            yield Tile(f"Estimated, {found.name(made)}", *str(made.accuracy).split(" ", 1))


def _happened(found: Overview, folder: Path) -> Sequence[Json]:
    """Runs and events together, newest first."""
    rows: list[tuple[datetime, Json]] = []
    for run in found.runs:
        link = run.page and quote(Path(os.path.relpath(run.page, folder)).as_posix())
        rows.append((run.at, {"of": f"run {run.id}", "link": link, "headline": run.headline}))
    for event in found.events:
        happened = {"of": found.name(event), "link": None, "headline": event.headline}
        rows.append((event.at, happened))
    rows.sort(key=lambda row: row[0], reverse=True)
    return [{"at": f"{at:%Y-%m-%d %H:%M}", **row} for at, row in rows]
