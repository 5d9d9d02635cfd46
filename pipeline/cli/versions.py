"""`bnpipe versions`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from pipeline.errors import ExitCode

app = typer.Typer(help="List, verify or prune the served versions.", invoke_without_command=True)


@app.callback()
def default(context: typer.Context, as_json: Json = False) -> None:
    """List the versions; `verify` and `prune` do more."""
    if context.invoked_subcommand is None:
        _list(None, None, as_json=as_json)


@app.command("list")
def listed(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """List the served versions: labels, where each came from, what was withdrawn."""
    _list(sets, config, as_json=as_json)


@app.command()
def verify(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> int:
    """Compare the bytes of every version with what was published; exit 7 if one differs."""
    from pipeline import ui
    from serving import versions
    from serving.errors import ServingError

    base = _base(sets, config)
    damaged: dict[int, str] = {}
    found = versions.complete_versions(base)
    for version in found:
        try:
            versions.check_version(base, version)
        except ServingError as error:
            damaged[version] = str(error)
    if as_json:
        ui.write_json({"folder": str(base), "versions": found, "damaged": damaged})
    else:
        for text in damaged.values():
            ui.say(text, style="red")
        ui.say(f"{len(found) - len(damaged)} of {len(found)} versions are what was published")
    return ExitCode.SERVING if damaged else ExitCode.OK


@app.command()
def prune(
    keep: Annotated[
        int | None, typer.Option(min=1, help="By default serving.keep_versions.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Delete old versions; the live, the labelled and the newest stay."""
    from pipeline import ui
    from serving.publish import prune as remove

    keep = keep or config_from(config, sets).serving.keep_versions
    removed = remove(_base(sets, config), keep)
    if as_json:
        ui.write_json({"removed": removed})
    else:
        ui.say(f"removed {', '.join(f'v{v}' for v in removed) or 'nothing'}")


def _base(sets: list[str] | None, config: Path | None) -> Path:
    from pipeline.definition import served_folder

    return served_folder(config_from(config, sets), open_store().home)


def _list(sets: list[str] | None, config: Path | None, *, as_json: bool) -> None:
    from pipeline import ui

    base = _base(sets, config)
    rows = _rows(base)
    if as_json:
        ui.write_json({"folder": str(base), "versions": rows})
        return
    ui.say(str(base))
    shown = [
        (
            f"v{row['version']}",
            " ".join(row["labels"]) or "",
            row["run"] or "",
            row["digest"][:12],
            row["note"],
        )
        for row in rows
    ]
    ui.table(("version", "labels", "run", "digest", "note"), shown)


def _rows(base: Path) -> list[dict[str, Any]]:
    """One row a version, newest first."""
    from serving import ledger, model_config, versions

    history = ledger.read(base)
    live = versions.live(base)
    rows = []
    for version in reversed(versions.complete_versions(base)):
        digest = versions.digest_of(base, history, version)
        entry, withdrawal = history.entry(version), history.withdrawn.get(digest)
        labels = [n for n in model_config.LABELS if model_config.label(base, n) == version]
        note = entry.provenance.get("verdict", "") if entry else "not published by bnpipe"
        if entry and entry.force:
            note = f"forced: {entry.force}"
        if withdrawal:
            note = f"withdrawn: {withdrawal.reason}"
        rows.append(
            {
                "version": version,
                "live": version == live,
                "labels": labels,
                "digest": digest,
                "run": entry.provenance.get("run") if entry else None,
                "note": note,
            }
        )
    return rows
