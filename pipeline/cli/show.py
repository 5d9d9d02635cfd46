"""`bnpipe show`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, open_served, open_store

if TYPE_CHECKING:
    from bnpipe.pipeline.engine.runs import RunFolder, Span

_BAR_WIDTH = 24
"""Characters that a run's time is drawn on."""


def show(
    what: Annotated[
        str, typer.Argument(metavar="RUN[/STEP] | served/N", help="E.g. 3, latest/trainer.")
    ] = "latest",
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
    form: Annotated[
        Literal["slsa", "cyclonedx"] | None,
        typer.Option("--format", help="A served version for other tools: provenance or ML-BOM."),
    ] = None,
) -> None:
    """Show a run, one of its steps, or where a served version came from.

    Examples: `bnpipe show`, `bnpipe show 3/trainer`, `bnpipe show latest/evaluator`,
    `bnpipe show served/1`, `bnpipe show served/1 --format cyclonedx`.
    """
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.engine.fingerprint import flat
    from bnpipe.pipeline.engine.runs import find_run

    head, _, tail = what.partition("/")
    if head == "served":
        version = _served(tail, sets, config)
        if form is not None:
            version = _for_tools(open_served(config, sets), version, form)
        if as_json or form is not None:
            ui.write_json(version)
        else:
            ui.table(("", ""), flat(version))
        return
    if form is not None:
        raise ConfigError(f"--format {form}: {what} is no served version", hint="e.g. served/1")
    folder = find_run(open_store(), head)
    summary = folder.summary()
    if tail:
        _show_step(folder, _step(summary, tail), as_json=as_json)
    elif as_json:
        ui.write_json(summary)
    else:
        _show_run(summary)


def _step(summary: dict[str, Any], name: str) -> dict[str, Any]:
    from bnpipe.pipeline.engine.errors import ConfigError

    steps: dict[str, dict[str, Any]] = {step["name"]: step for step in summary["steps"]}
    if name not in steps:
        hint = f"it has: {', '.join(steps)}"
        raise ConfigError(f"run {summary['id']} has no step {name!r}", hint=hint)
    return steps[name]


def _show_step(folder: RunFolder, step: dict[str, Any], *, as_json: bool) -> None:
    """A step; the evaluator's with its metrics and rules."""
    from bnpipe.pipeline.engine.fingerprint import flat
    from bnpipe.pipeline.report.evaluation import RunEvaluation

    of_evaluator = step["component"] == "evaluator"
    evaluation = RunEvaluation.of(folder.report()) if of_evaluator else None
    if as_json:
        if evaluation is not None:
            step |= {"evaluation": evaluation.metrics, "blessing": evaluation.blessing}
        ui.write_json(step)
        return
    if evaluation is None:
        ui.table(("", ""), flat(step))
        return
    ui.say(str(evaluation.blessing.get("sentence", "")), style="bold")
    ui.say("")
    ui.table(("metric", *evaluation.models), evaluation.table())
    ui.say("")
    ui.table(("outcome", "rule", "value", "bound", "sentence"), evaluation.rule_table())
    ui.say(f"\nby slice and in pictures: bnpipe report {folder.id} --open")


def _served(version: str, sets: Sets, config: ConfigFile) -> dict[str, Any]:
    """From a served version back to run, data, code and lock."""
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.folder import versions

    base = open_served(config, sets)
    if not (version.isascii() and version.isdecimal()):
        raise ConfigError(f"served/{version}: a version is a number", hint="e.g. served/1")
    number = int(version)
    folder = str(versions.version_path(base, number))
    return {"version": number, "folder": folder, **versions.provenance_of(base, number)}


def _for_tools(base: Path, source: dict[str, Any], form: str) -> dict[str, Any]:
    """A served version as provenance of SLSA, or as a bill of materials of CycloneDX."""
    from bnpipe.pipeline.champion import run_behind
    from bnpipe.pipeline.report.cyclonedx import bill_of_materials
    from bnpipe.serving.export.digest import file_digests
    from bnpipe.serving.folder import ledger, statements, versions

    history = ledger.read(base)
    versions.check_version(base, source["version"], history)
    files = file_digests(Path(source["folder"]))
    entry = history.entry(source["version"])
    assert entry is not None  # `source` is made from it
    built = statements.provenance_statement(entry, files)
    if form == "slsa":
        return built
    run = run_behind(open_store(), source)
    return bill_of_materials(source, built, run.report() if run else {})


def _bar(span: Span, whole: float) -> str:
    """A stretch of time, drawn on the run's."""
    scale = _BAR_WIDTH / max(whole, span.start + span.seconds)
    begin = round(span.start * scale)
    return " " * begin + "━" * max(1, round((span.start + span.seconds) * scale) - begin)


def _show_run(summary: dict[str, Any]) -> None:
    from bnpipe.pipeline.engine.runs import timeline

    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(summary["started"]))
    ui.say(f"run {summary['id']}  {summary['status']}  {started}")
    spans = timeline(summary)
    bars = {span.name: _bar(span, summary["seconds"]) for span in spans if not span.ahead}
    rows = [
        (
            step["name"],
            step["action"],
            f"{step['seconds']:.1f} s",
            bars.get(step["name"], ""),
            " ".join(f"{field} {digest[:8]}" for field, digest in step["outputs"].items()),
            step["error"] or "; ".join(r["sentence"] for r in step["reasons"]),
        )
        for step in summary["steps"]
    ]
    rows += [
        (span.name, "made ready", f"{span.seconds:.1f} s", _bar(span, summary["seconds"]), "", "")
        for span in spans
        if span.ahead
    ]
    ui.table(("step", "action", "took", "when", "outputs", "why"), rows)
    ui.show_summary(summary)
