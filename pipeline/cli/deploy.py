"""`bnpipe deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
            help="compose, kubernetes, gateway, kserve, monitoring, runbook or beam (worker image, "
            "Flink cluster); by default all."
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
    """Write the deployment files for what is published now; `beam` needs nothing published.

    Written again after a push, a promotion or a rollback, the ConfigMap moves labels in the two
    steps that a running server takes.
    """
    from bnpipe.pipeline.engine.errors import ConfigError
    from bnpipe.serving.deploy.render import KINDS, fill, next_step, render, write

    kinds = kind or list(KINDS)
    for unknown in [k for k in kinds if k not in KINDS]:
        raise ConfigError(f"--kind: expected {', '.join(KINDS)}, received {unknown!r}")
    settings, advice = config_from(config, sets), ""
    files: dict[str, str] = {}
    serving = [k for k in kinds if k != "beam"]
    if serving:
        deployment = _deployment(settings)
        listed = next_step(output, deployment.models)
        for k in serving:
            files |= render(k, deployment, listed)
        if listed != deployment.models and "kubernetes" in kinds:
            advice = _advice(listed, deployment.models)
    if "beam" in kinds:
        files |= fill("beam", _cluster(settings))
    write(output, files, force=force)
    value = {"folder": str(output), "files": list(files), "labels_wait": bool(advice)}
    ui.answer(value, *(str(output / path) for path in files), as_json=as_json)
    if advice and not as_json:
        ui.say(advice)


def _cluster(config: Config) -> dict[str, Any]:
    import dataclasses

    import yaml

    from bnpipe.serving.deploy import cluster

    text = yaml.safe_dump(config.snapshot(), sort_keys=False)
    return cluster.values(config=text, **dataclasses.asdict(config.deploy.beam))


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
        raise ServingError(
            f"nothing is published in {base}",
            hint="publish a model: bnpipe run; --kind beam needs none",
        )
    values = {f.name: getattr(config.deploy, f.name) for f in dataclasses.fields(config.deploy)}
    del values["beam"]
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
