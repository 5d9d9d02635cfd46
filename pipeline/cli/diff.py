"""`bnpipe diff`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, open_served, open_store

if TYPE_CHECKING:
    from bnpipe.pipeline.engine.runs import RunFolder
    from bnpipe.pipeline.engine.store import Store
    from bnpipe.pipeline.report.diff import Change, MetricChange, Paired, RunDiff

_NAMES = "A run's number, latest, or champion: the run behind the live version."


def diff(
    before: Annotated[str, typer.Argument(metavar="A", help=_NAMES)],
    after: Annotated[str, typer.Argument(metavar="B", help=_NAMES)] = "latest",
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Say what differs between two runs: config, code, data, metrics, verdict.

    Examples: `bnpipe diff 3 4`, `bnpipe diff 3` (against the latest), `bnpipe diff champion`.
    """
    from bnpipe.pipeline.report.diff import diff_runs

    store = open_store()
    runs = [_run(store, name, sets, config) for name in (before, after)]
    difference = diff_runs(store, runs[0], runs[1])
    if as_json:
        ui.write_json(difference.to_json())
    else:
        _show(difference)


def _run(store: Store, name: str, sets: Sets, config: ConfigFile) -> RunFolder:
    from bnpipe.pipeline.engine.runs import find_run

    if name != "champion":
        return find_run(store, name)
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.folder import versions

    base = open_served(config, sets)
    version = versions.live(base)
    if version is None:
        raise ConfigError(f"nothing is served in {base} yet", hint="list runs: bnpipe runs")
    return find_run(store, str(versions.provenance_of(base, version).get("run")))


def _show(diff: RunDiff) -> None:
    a, b = diff.before, diff.after
    runs = f"run {a['id']}", f"run {b['id']}"
    ui.say(f"{runs[0]} ({a['status']}) -> {runs[1]} ({b['status']})", style="bold")
    _section("config", diff.config, runs)
    _section("code", diff.code, runs, short=True)
    if diff.not_compared:
        ui.say(f"code not compared for lack of a record: {', '.join(diff.not_compared)}")
    _section("data", diff.data, runs, short=True)
    _section("environment", diff.environment, runs)
    _show_metrics(diff, runs)
    _section("gate", diff.gate, runs)


def _section(
    title: str, changes: Sequence[Change], runs: tuple[str, str], *, short: bool = False
) -> None:
    if not changes:
        ui.say(f"\n{title}: the same")
        return

    def text(value: Any) -> str:
        return "-" if value is None else str(value)[:12] if short else str(value)

    ui.say("")
    rows = [(change.name, text(change.before), text(change.after)) for change in changes]
    ui.table((title, *runs), rows)


def _show_metrics(diff: RunDiff, runs: tuple[str, str]) -> None:
    rows = [
        (c.model, c.metric, str(c.before), str(c.after), _difference(c))
        for c in diff.metrics
        if c.model == "candidate" or c.before.value != c.after.value
    ]
    if not rows:
        ui.say("\nmetrics: not in both runs")
        return
    ui.say("")
    ui.table(("model", "metric", *runs, "difference"), rows)
    if diff.paired is not None:
        ui.say(_sentence(diff.paired))


def _difference(change: MetricChange) -> str:
    if change.difference is None:
        return "-"
    return f"{change.difference:+.4f}" if change.difference else "="


def _sentence(paired: Paired) -> str:
    from bnpipe.pipeline.report.evaluation import points

    low, high = paired.interval
    return (
        f"on the same {paired.images} images the candidate's accuracy differs by "
        f"{points(paired.difference)} points ({points(low)} to {points(high)}): "
        f"{paired.only_after} only the second gets right, {paired.only_before} only the first "
        f"(McNemar p {paired.p_value:.3g})"
    )
