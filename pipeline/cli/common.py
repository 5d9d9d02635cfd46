"""Options and lookups that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline.configuration.config import Config, home_from, load, local_path
from bnpipe.pipeline.engine.store import Store


def expand_path(given: Path | None) -> Path | None:
    """For options that are paths: a shell leaves `--config=~/x` as it is.

    Raises:
        ConfigError: it is an address.
    """
    return given and local_path(given, "an option that is a path")


Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override the config, e.g. --set trainer.epochs=3."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="Config file; by default bnpipe.yaml here, if any.",
        callback=expand_path,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Show tracebacks.")]


def config_from(file: Path | None, sets: list[str] | None) -> Config:
    """The resolved configuration.

    Raises:
        ConfigError: unknown key, bad value, unreadable file.
    """
    return load(file, sets or [])


def open_served(file: Path | None, sets: list[str] | None) -> Path:
    """The configured served folder of this home."""
    from bnpipe.pipeline.configuration.publishing import served_folder

    return served_folder(config_from(file, sets), home_from())


def open_store() -> Store:
    """The store of this home, for reading."""
    return Store(home_from())


def tell_live(config: Config, base: Path) -> None:
    """Have MLflow's alias follow a label that has moved; what goes wrong there is a warning."""
    from bnpipe.pipeline import ui
    from bnpipe.pipeline.tracking import follow_live

    problem = follow_live(base, config.tracking.mlflow)
    if problem is not None:
        ui.warn(problem)
