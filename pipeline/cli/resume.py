"""`bnpipe resume`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from bnpipe.data.plain_file import read_plain
from bnpipe.pipeline.cli.common import Json, Verbose, open_store


def resume(
    run: Annotated[str, typer.Argument(help="A run's number, or `latest`.")] = "latest",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a run, under the configuration and the flags it was started with.

    `bnpipe run` goes on just as well when the configuration is the same; this verb pins it.
    """
    from bnpipe.pipeline.cli import run as run_verb
    from bnpipe.pipeline.cli import study
    from bnpipe.pipeline.configuration.config import from_values, parse_yaml
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.engine.plan import Selection
    from bnpipe.pipeline.engine.runs import find_run
    from bnpipe.pipeline.launch import Request

    folder = find_run(open_store(), run)
    frozen = folder.path / "config.yaml"
    try:
        config = from_values(parse_yaml(read_plain(frozen).decode(), str(frozen)) or {})
    except ConfigError as error:
        raise ConfigError(
            f"run {folder.id} was started under another configuration: {error}",
            hint="start a new one: bnpipe run",
        ) from None
    asked = folder.summary().get("request", {})  # a home of an older bnpipe has none
    request = Request(
        Selection(to=asked.get("to"), only=asked.get("only")),
        keep_going=asked.get("keep_going", False),
        report=asked.get("report", True),
        beam_flags=tuple(asked.get("beam_flags", ())),
    )
    plan = folder.path / "plan.json"
    planned = json.loads(read_plain(plan))["steps"] if plan.exists() else []
    if any(step["name"] == "study" for step in planned):
        return study.start(config, request, as_json=as_json, verbose=verbose)
    return run_verb.start(config, request, as_json=as_json, verbose=verbose)
