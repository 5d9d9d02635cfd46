"""`bnpipe serve`."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.common import ConfigFile, Sets, config_from, open_store
from pipeline.errors import ExitCode

_BINARY = "tensorflow_model_server"
_IMAGE = "tensorflow/serving:2.21.0"


def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of REST; 0: any free one.")] = 8501,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of gRPC; 0: any free one.")
    ] = 8500,
    host: Annotated[str, typer.Option(help="Address of the stand-in to listen on.")] = "127.0.0.1",
    binary: Annotated[
        Path | None, typer.Option(help=f"A {_BINARY}; by default the one on PATH.")
    ] = None,
    sets: Sets = None,
    config: ConfigFile = None,
) -> int:
    """Serve what is published, by TensorFlow Serving or else by its stand-in; Ctrl-C ends it."""
    from pipeline import ui
    from pipeline.definition import served_folder
    from serving.errors import ServingError
    from serving.model_config import MODELS_CONFIG

    base = served_folder(config_from(config, sets), open_store().home)
    if not (base / MODELS_CONFIG).is_file():
        raise ServingError(f"nothing is published in {base}", hint="publish a model: bnpipe run")
    if binary is not None and not os.access(binary, os.X_OK):
        raise ServingError(f"--binary: expected a program, received {binary}")
    found = str(binary) if binary else shutil.which(_BINARY)
    if found:
        # 0 would switch the real server's REST off.
        command = [found, *_flags(base, port or _free_port(), grpc_port or _free_port())]
        ui.say(shlex.join(command))
        os.execv(found, command)
    ui.say(f"{_BINARY} is not on PATH. With Docker:")
    ui.say(f"  {shlex.join(_docker(base, port or 8501, grpc_port or 8500))}")

    from serving.local.main import main

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


def _docker(base: Path, port: int, grpc_port: int) -> list[str]:
    """The folder is mounted at its own path, because models.config names that."""
    real = os.path.realpath(base)
    publish = [f"-p=127.0.0.1:{outside}:{outside}" for outside in (port, grpc_port)]
    entry = f"--entrypoint={_BINARY}"
    flags = _flags(Path(real), port, grpc_port)
    return ["docker", "run", "--rm", *publish, f"-v={real}:{real}:ro", entry, _IMAGE, *flags]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
