"""`bnpipe config`."""

from __future__ import annotations

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from

app = typer.Typer(help="Show, check or describe the configuration.", no_args_is_help=True)


@app.command()
def show(sets: Sets = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """Print the resolved configuration: defaults, file, environment, --set."""
    snapshot = config_from(config, sets).snapshot()
    if as_json:
        ui.write_json(snapshot)
    else:
        import yaml

        ui.write(yaml.safe_dump(snapshot, sort_keys=False))


@app.command()
def check(sets: Sets = None, config: ConfigFile = None) -> None:
    """Say whether the configuration is valid; exit 2 if it is not."""
    from bnpipe.pipeline.configuration.config import home_from
    from bnpipe.pipeline.configuration.publishing import check_target
    from bnpipe.pipeline.definition import build
    from bnpipe.pipeline.schedule.notify import check_receivers

    settings = config_from(config, sets)
    graph = build(settings, home_from())
    check_target(settings)
    check_receivers(settings.notify)
    settings.beam.require()
    ui.say(f"valid: {len(graph.nodes)} steps")


@app.command()
def schema() -> None:
    """Print the JSON Schema: every key with type, bounds, default and description."""
    from bnpipe.pipeline.configuration.config import schema as describe

    ui.write_json(describe())
