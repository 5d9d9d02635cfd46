"""`bnpipe smoke`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from
from bnpipe.pipeline.cli.predict import DEFAULT_URL
from bnpipe.pipeline.engine.errors import ExitCode

_OUTCOMES = ("passed", "failed", "skipped")


def smoke(
    url: Annotated[str, typer.Option(help="http://HOST:PORT of REST.")] = DEFAULT_URL,
    grpc: Annotated[
        str | None, typer.Option(help="HOST:PORT of gRPC; without it only REST is asked.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="By default serving.model_name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the checks that passed too.")] = False,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Ask a server what its clients rely on; exit 7 if an answer is wrong."""
    from bnpipe.pipeline.configuration.publishing import model_name
    from bnpipe.serving.client.smoke import run

    name = model or model_name(config_from(config, sets))
    results = run(url, name, grpc)
    counts = {kind: sum(r.outcome == kind for r in results) for kind in _OUTCOMES}
    if as_json:
        checks = [asdict(result) for result in results]
        ui.write_json({"url": url, "grpc": grpc, "model": name, **counts, "checks": checks})
    else:
        shown = [r for r in results if every or r.outcome != "passed"]
        if shown:
            rows = [(r.check, r.over, r.outcome, r.detail) for r in shown]
            ui.table(("check", "over", "outcome", "why"), rows)
        ui.say(
            f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped "
            f"of {len(results)} checks against {name} at {url}"
            + ("" if grpc else " (gRPC: --grpc HOST:PORT)")
        )
    return ExitCode.SERVING if counts["failed"] else ExitCode.OK
