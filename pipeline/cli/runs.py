"""`bnpipe runs`."""

from __future__ import annotations

import time
from itertools import islice
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import Json, open_store


def runs(
    count: Annotated[int, typer.Option("-n", help="How many, newest first.")] = 20,
    status: Annotated[str | None, typer.Option(help="Only those with this status.")] = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    from bnpipe.pipeline.engine.runs import summaries

    wanted = (r for r in summaries(open_store()) if status in (None, r["status"]))
    listed = list(islice(wanted, max(count, 0)))
    if as_json:
        ui.write_json(listed)
        return
    rows = [
        (
            run["id"],
            run["status"],
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.get("started", 0))),
            f"{run.get('seconds', 0):.1f} s",
            run.get("dataset", ""),
            ", ".join(r["trigger"] for r in (run.get("trigger") or {}).get("reasons", [])),
            (run.get("verdict") or {}).get("sentence") or run.get("error") or "",
        )
        for run in listed
    ]
    ui.table(("run", "status", "started", "took", "data set", "reason", "verdict"), rows)
