"""`bnpipe doctor`."""

from __future__ import annotations

import dataclasses

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode


def doctor(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> int:
    """Check the installation and this home; exit 1 if something is wrong."""
    from bnpipe.pipeline.doctor import examine

    checks = []
    data = config_from(config, sets).data
    for check in examine(open_store().home, data.archives, data.dataset):
        checks.append(check)
        if not as_json:
            ui.say(
                f"{'ok' if check.ok else '!!'}  {check.name:<28} {check.sentence}",
                style="" if check.ok else "red",
            )
    if as_json:
        ui.write_json([dataclasses.asdict(c) for c in checks])
    return ExitCode.OK if all(c.ok for c in checks) else ExitCode.FAILED
