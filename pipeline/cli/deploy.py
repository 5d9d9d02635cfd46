"""`bnpipe deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Json, Sets, config_from, expand_path, open_store

if TYPE_CHECKING:
    from bnpipe.pipeline.configuration.config import Config
    from bnpipe.serving.deploy.settings import Deployment
    from bnpipe.serving.folder.model_config import ModelConfig

app = typer.Typer(help="Write the files that servers are started with.", no_args_is_help=True)


@app.callback()
def deploy() -> None:
    """Makes `render` a verb of its own while it is the only one."""


@app.command("render")
def render_files(
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="compose, kubernetes, gateway, kserve, monitoring or runbook; by default all."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write to.", callback=expand_path)] = Path(
        "deploy"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace files of others too.")] = False,
    sets: Sets = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Write the deployment files for what is published now.

    Written again after a push, a promotion or a rollback, the ConfigMap moves labels in the two
    steps that a running server takes.
    """
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.deploy.render import KINDS, next_step, render, write

    kinds = kind or list(KINDS)
    for unknown in [k for k in kinds if k not in KINDS]:
        raise ConfigError(f"--kind: expected {', '.join(KINDS)}, received {unknown!r}")
    deployment = _deployment(config_from(config, sets))
    listed = next_step(output, deployment.models)
    files = {path: text for k in kinds for path, text in render(k, deployment, listed).items()}
    write(output, files, force=force)
    waiting = listed != deployment.models and "kubernetes" in kinds
    value = {"folder": str(output), "files": list(files), "labels_wait": waiting}
    ui.answer(value, *(str(output / path) for path in files), as_json=as_json)
    if waiting and not as_json:
        ui.say(_advice(listed, deployment.models))


def _deployment(config: Config) -> Deployment:
    import dataclasses

    from bnpipe.pipeline.configuration.publishing import served_folder, server_files, traffic_log
    from bnpipe.serving.deploy.settings import Deployment
    from bnpipe.serving.errors import ServingError
    from bnpipe.serving.folder import ledger, versions
    from bnpipe.serving.folder import server_files as files

    home = open_store().home
    base = served_folder(config, home)
    models = versions.wanted_config(base, ledger.read(base))
    if models is None:
        raise ServingError(f"nothing is published in {base}", hint="publish a model: bnpipe run")
    values = {f.name: getattr(config.deploy, f.name) for f in dataclasses.fields(config.deploy)}
    values["traffic_log"] = str(traffic_log(config, home))
    deployment = Deployment(
        models=models, files=server_files(config), batching=config.serving.batching, **values
    )
    for kept in files.write(base, deployment.files):  # compose mounts the folder with all in it
        ui.warn(kept)
    return deployment


def _advice(listed: ModelConfig, wanted: ModelConfig) -> str:
    moves = [
        f"{label} moves to v{version}"
        for label, version in wanted.labels.items()
        if listed.labels[label] != version
    ]
    return (
        f"{', '.join(moves)} in a second step: apply, wait until every server has loaded it, "
        "render and apply again"
    )
