"""`bnpipe smoke`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from
from bnpipe.pipeline.cli.predict import DEFAULT_URL
from bnpipe.pipeline.errors import ExitCode

_OUTCOMES = ("passed", "failed", "skipped")


def smoke(
    url: Annotated[str, typer.Option(help="http://HOST:PORT of REST.")] = DEFAULT_URL,
    grpc: Annotated[
        str | None, typer.Option(help="HOST:PORT of gRPC; without it only REST is asked.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="By default serving.model_name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Show the cases that passed too.")] = False,
    plan: Annotated[
        bool, typer.Option("--list", help="Ask nobody: list the cases, and who does which.")
    ] = False,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> int:
    """Ask a server everything that its clients rely on; exit 7 if an answer is wrong."""
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.definition import model_name
    from bnpipe.serving.cases import Target, run

    if plan:
        _list(as_json=as_json)
        return ExitCode.OK
    name = model or model_name(config_from(config, sets))
    results = run(Target(url, name, grpc))
    counts = {kind: sum(r.outcome == kind for r in results) for kind in _OUTCOMES}
    rows = [
        {
            "case": r.case.number,
            "title": r.case.title,
            "match": str(r.case.match),
            "seen_on_a_real_server": r.case.seen,
            "outcome": r.outcome,
            "detail": r.detail,
        }
        for r in results
    ]
    if as_json:
        ui.write_json({"url": url, "grpc": grpc, "model": name, **counts, "cases": rows})
    else:
        shown = [
            (r["case"], r["match"], r["outcome"], r["title"], r["detail"])
            for r in rows
            if every or r["outcome"] != "passed"
        ]
        if shown:
            ui.table(("case", "compared", "outcome", "asked", "why"), shown)
        ui.say(
            f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped "
            f"of {len(results)} cases against {name} at {url}"
            + ("" if grpc else " (gRPC: --grpc HOST:PORT)")
        )
    return ExitCode.SERVING if counts["failed"] else ExitCode.OK


def _list(*, as_json: bool) -> None:
    from bnpipe.pipeline import ui
    from bnpipe.serving.cases import plan

    rows = plan()
    if as_json:
        ui.write_json({"cases": rows})
        return
    known = {True: "seen", False: "source"}
    ui.table(
        ("case", "compared", "known from", "by", "what"),
        [
            (
                str(r["case"]),
                r["match"],
                known[r["seen_on_a_real_server"]],
                r["by"].rpartition("/")[2].partition("::")[0],
                r["title"],
            )
            for r in rows
        ],
    )
    for kind in ("exact", "sub", "json"):
        found = [r for r in rows if r["match"] == kind]
        unseen = sum(not r["seen_on_a_real_server"] for r in found)
        ui.say(f"{kind}: {len(found)}, of them {unseen} known from the server's source only")
