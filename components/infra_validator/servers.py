"""The server that a model is tried on, and the command that starts it. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnpipe.data.errors import RequestError
from bnpipe.serving.deploy import IMAGE

BINARY = "tensorflow_model_server"
STAND_IN = "stand-in"
MODEL = "candidate"
"""The model's name while it is tried."""

DOCKER_ANSWER_SECONDS = 3.0
LONGEST_TRIAL_SECONDS = 900
"""A container ends by itself after this time, should nobody be left to end it."""

_REST, _GRPC = 8501, 8500


@dataclass(frozen=True)
class Server:
    """A kind of server.

    Attributes:
        name: `tensorflow_model_server`, `docker` or `stand-in`.
        identity: changes when another server would be asked.
        program: what is executed; empty for the stand-in.
    """

    name: str
    identity: str
    program: str = ""

    @property
    def real(self) -> bool:
        """True for TensorFlow Serving, false for the stand-in."""
        return self.name != STAND_IN


@dataclass(frozen=True)
class Launch:
    """The commands that start a server and, beyond its process, end it.

    Attributes:
        command: what to execute.
        environment: of the process.
        ending: a command that ends what the process has started elsewhere; empty if nothing.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    ending: Sequence[str] = ()


def find(binary: str | None) -> Server:
    """The server that models are tried on here.

    Args:
        binary: `serving.server_binary`.

    Raises:
        RequestError: it is no program.
    """
    program = binary if binary is not None else shutil.which(BINARY)
    if binary is not None and shutil.which(os.path.abspath(binary)) is None:
        raise RequestError(
            f"serving.server_binary: expected a program, received {binary}",
            hint=f"name a {BINARY}, or leave it out",
        )
    if program is not None:
        # Hashing hundreds of megabytes would take longer than all of `bnpipe plan`.
        stat = os.stat(program)
        return Server(BINARY, f"{BINARY} {stat.st_size}.{stat.st_mtime_ns}", program)
    docker = shutil.which("docker")
    image = _image(docker) if docker is not None else None
    if docker is not None and image is not None:
        return Server("docker", f"{IMAGE} {image}", docker)
    return Server(STAND_IN, STAND_IN)


def _image(docker: str) -> str | None:
    """The image's id, if an engine answers and has it; nothing is pulled."""
    try:
        answer = subprocess.run(
            [docker, "image", "inspect", "--format={{.Id}}", IMAGE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DOCKER_ANSWER_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def launch(server: Server, base: Path | None, rest_port: int, grpc_port: int) -> Launch:
    """The commands that serve the versions in a folder.

    Args:
        server: which.
        base: the folder; the version in it is 1. The stand-in is told later.
        rest_port: a free port; the stand-in chooses its own and says which.
        grpc_port: another.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    # -P: nothing is imported from the current folder.
    python = [sys.executable, "-P", "-m"]
    parent = str(os.getpid())
    if not server.real:
        return Launch([*python, "bnpipe.components.infra_validator.fresh", parent], environment)
    assert base is not None
    tied = [*python, "bnpipe.data.parent", parent, server.program]
    if server.name == BINARY:
        return Launch([*tied, *_flags(base, rest_port, grpc_port)], environment)
    name = f"bnpipe-{uuid.uuid4().hex}"
    container = [
        "run",
        "--rm",
        "--init",
        "--pull=never",
        f"--name={name}",
        f"--user={os.getuid()}:{os.getgid()}",
        f"--publish=127.0.0.1:{rest_port}:{_REST}",
        f"--publish=127.0.0.1:{grpc_port}:{_GRPC}",
        f"--volume={base}:{base}:ro",
        "--entrypoint=timeout",
        IMAGE,
        str(LONGEST_TRIAL_SECONDS),
        BINARY,
    ]
    ending = [server.program, "kill", name]
    return Launch([*tied, *container, *_flags(base, _REST, _GRPC)], environment, ending)


def _flags(base: Path, rest_port: int, grpc_port: int) -> list[str]:
    """Look for versions once; a load that fails is not tried again."""
    return [
        f"--rest_api_port={rest_port}",
        f"--port={grpc_port}",
        f"--model_name={MODEL}",
        f"--model_base_path={base}",
        "--file_system_poll_wait_seconds=0",
        "--max_num_load_retries=0",
        "--num_load_threads=1",
        "--enable_profiler=false",
    ]
