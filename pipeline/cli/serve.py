"""`bnpipe serve`."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
from pathlib import Path
from typing import Annotated

import typer

from bnpipe.pipeline import ui
from bnpipe.pipeline.cli.common import ConfigFile, Sets, config_from, expand_path, open_store
from bnpipe.pipeline.engine.errors import ExitCode

_BINARY = "tensorflow_model_server"
# Without threads for it, a load that is tried again stops everything else. The stand-in has them.
_REAL = ("--num_load_threads=2", "--num_unload_threads=1", "--enable_profiler=false")


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of REST; 0: any free one.")] = 8501,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of gRPC; 0: any free one.")
    ] = 8500,
    host: Annotated[str, typer.Option(help="Address of the stand-in to listen on.")] = "127.0.0.1",
    binary: Annotated[
        Path | None,
        typer.Option(
            help="By default serving.server_binary, else what PATH has.", callback=expand_path
        ),
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
) -> int:
    """Serve what is published, by TensorFlow Serving or else by its stand-in; Ctrl-C ends it.

    TensorFlow Serving also gets monitoring.config and, with serving.batching, batching.config.
    With serving.verify_key or serving.signing_key the versions' signatures are checked first.
    """
    from bnpipe.pipeline.configuration.publishing import rollout, server_files
    from bnpipe.serving.errors import ServingError
    from bnpipe.serving.folder import server_files as files
    from bnpipe.serving.folder.model_config import MODELS_CONFIG

    settings = config_from(config, sets)
    target = rollout(settings, open_store().home)
    base = target.base
    if not (base / MODELS_CONFIG).is_file():
        raise ServingError(f"nothing is published in {base}", hint="publish a model: bnpipe run")
    if binary is None and settings.serving.server_binary is not None:
        binary = Path(settings.serving.server_binary)
    if binary is not None and not (binary.is_file() and os.access(binary, os.X_OK)):
        raise ServingError(f"{_BINARY}: expected a program, received {binary}")
    target.check_listed()
    with contextlib.suppress(ServingError):  # a folder that cannot be written keeps what it has
        for kept in files.write(base, server_files(settings)):
            ui.warn(kept)
    real = os.path.realpath(base)
    more = [*_REAL, *files.flags(Path(real), batching=settings.serving.batching)]
    program = str(binary) if binary else shutil.which(_BINARY)
    if program:
        # 0 would switch the real server's REST off.
        command = [program, *_flags(base, port or _free_port(), grpc_port or _free_port()), *more]
        ui.say(shlex.join(command))
        os.execv(program, command)
    ui.say(f"{_BINARY} is not on PATH. With Docker:")
    docker = _docker(settings.deploy.image, real, port or 8501, grpc_port or 8500)
    ui.say(f"  {shlex.join([*docker, *more])}")

    from bnpipe.serving.local.main import main

    code = main([*_flags(base, port, grpc_port), f"--host={host}"])
    return ExitCode.SERVING if code else ExitCode.OK


def _flags(base: Path, port: int, grpc_port: int) -> list[str]:
    return [
        f"--rest_api_port={port}",
        f"--port={grpc_port}",
        f"--model_config_file={base / 'models.config'}",
        "--model_config_file_poll_wait_seconds=2",
        "--file_system_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        "--max_num_load_retries=3",
        "--load_retry_interval_micros=5000000",
    ]


def _docker(image: str, real: str, port: int, grpc_port: int) -> list[str]:
    """The folder is mounted at its own path, because models.config names that."""
    publish = [f"-p=127.0.0.1:{outside}:{outside}" for outside in (port, grpc_port)]
    entry = f"--entrypoint={_BINARY}"
    flags = _flags(Path(real), port, grpc_port)
    return ["docker", "run", "--rm", *publish, f"-v={real}:{real}:ro", entry, image, *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
