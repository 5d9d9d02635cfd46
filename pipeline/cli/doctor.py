"""`bnpipe doctor`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, open_store
from bnpipe.pipeline.engine.errors import ExitCode, one_line

if TYPE_CHECKING:
    from bnpipe.pipeline.cluster import Check


def doctor(
    sets: Sets = None,
    config: ConfigFile = None,
    engine: Annotated[
        bool, typer.Option("--engine", help="Try the engine of Beam pipelines instead.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check the installation and this home; exit 1 if something is wrong.

    With --engine: what `beam.engine` names, in one small job on all its workers.
    """
    checks = []
    for check in _of_engine(config, sets) if engine else _checks(config, sets):
        checks.append(check)
        if not as_json:
            hint = f" → {check.hint}" if check.hint else ""
            ui.say(
                f"{'ok' if check.ok else '!!'}  {check.name:<28} {check.sentence}{hint}",
                style="" if check.ok else "red",
            )
    if as_json:
        ui.write_json([dataclasses.asdict(c) for c in checks])
    return ExitCode.OK if all(c.ok for c in checks) else ExitCode.FAILED


def _of_engine(config: Path | None, sets: list[str] | None) -> Iterator[Check]:
    """The checks of the engine that the configuration names."""
    import tempfile
    import uuid

    from bnpipe.pipeline.cluster import Check, Cluster
    from bnpipe.pipeline.engine.execute import terminable
    from bnpipe.pipeline.engine.runs import joined

    beam, store = config_from(config, sets).beam, open_store()
    beam.require()
    if beam.engine == "local":
        yield Check("engine", True, "Beam pipelines run in this process")
        return
    with terminable(), joined(store), tempfile.TemporaryDirectory(dir=store.home / "tmp") as folder:
        log, prefix = Path(folder) / "job_server.log", f"bnpipe-doctor-{uuid.uuid4().hex[:8]}-"
        with Cluster(beam, beam.options, store.home, log, prefix) as cluster:
            yield from cluster.checks()


def _checks(config: Path | None, sets: list[str] | None) -> Iterator[Check]:
    """All checks; what a broken configuration or home keeps from being looked at is left out."""
    from bnpipe.pipeline.cluster import Check
    from bnpipe.pipeline.configuration.config import Config
    from bnpipe.pipeline.configuration.publishing import check_target
    from bnpipe.pipeline.doctor import examine

    data, home = Config().data, Path.cwd()
    try:
        settings = config_from(config, sets)
        data = settings.data
        check_target(settings)
    except BnpipeError as error:
        yield Check("configuration", False, one_line(error))
    try:
        home = open_store().home
    except (BnpipeError, OSError) as error:
        yield Check("home", False, one_line(error))
    yield from examine(home, data.archives, data.dataset)
