"""`bnpipe track`."""

from __future__ import annotations

from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Sets, config_from, open_store


def track(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's number, or latest.")
    ] = "latest",
    sets: Sets = None,
    config: ConfigFile = None,
) -> None:
    """Tell MLflow of a run; with `tracking.mlflow` set, every run does it at its end.

    Examples: `bnpipe track`, `bnpipe track 3 --set tracking.mlflow=http://127.0.0.1:5000`.
    """
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.pipeline.engine.runs import find_run
    from bnpipe.pipeline.tracking import track as tell

    tracking = config_from(config, sets).tracking
    if tracking.mlflow is None:
        raise ConfigError(
            "no tracking server is configured",
            hint="--set tracking.mlflow=http://127.0.0.1:5000",
        )
    store = open_store()
    folder = find_run(store, run)
    number = tell(store, folder, tracking.mlflow, tracking.experiment)
    ui.say(f"run {folder.id} is in MLflow as {number}")
