"""The servers that tests ask: the stand-in in this process, or TensorFlow Serving in its own.

Tests take the fixture `binary`, which makes them run with both, and start what they need here.
`Load` asks a server all the while that a test does something to it.
"""

import contextlib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from bnpipe.serving.client.base import Options, Prediction
from bnpipe.serving.client.connect import connect
from bnpipe.serving.local.config import ModelEntry
from bnpipe.serving.local.server import LocalServer
from bnpipe.serving.local.states import Settings
from bnpipe.serving.local.status import StatusError
from tests.benchmarks.bench_load import Report, open_load
from tests.waiting import PATIENCE

FEATURES = {"features": np.zeros((1, 784), np.float32)}
RATE = 40.0


class StartFailed(Exception):
    """The server said why it does not start."""


@dataclass(frozen=True)
class Addresses:
    """Where a server answers."""

    rest: str
    grpc: str


@contextlib.contextmanager
def serving(binary: Path | None, models: Path, settings: Settings) -> Iterator[Addresses]:
    """A server that answers; it ends with the block.

    Args:
        binary: TensorFlow Serving, or None for the stand-in.
        models: a models.config, or the folder with the versions of `mnist`.
        settings: flags; the real server takes whole seconds only, one at least.

    Raises:
        StartFailed: it does not start.
    """
    with _stand_in(models, settings) if binary is None else _real(binary, models, settings) as at:
        yield at


@contextlib.contextmanager
def _stand_in(models: Path, settings: Settings) -> Iterator[Addresses]:
    try:
        server = LocalServer(
            [ModelEntry("mnist", str(models))] if models.is_dir() else models, settings
        )
    except StatusError as error:
        raise StartFailed(str(error)) from error
    try:
        yield _at(server.rest_port, server.grpc_port)
    finally:
        server.stop()


@contextlib.contextmanager
def _real(binary: Path, models: Path, settings: Settings) -> Iterator[Addresses]:
    with socket.socket() as first, socket.socket() as second:
        for probe in (first, second):
            probe.bind(("127.0.0.1", 0))
        rest, grpc = first.getsockname()[1], second.getsockname()[1]
    served = (
        ["--model_name=mnist", f"--model_base_path={models}"]
        if models.is_dir()
        else [f"--model_config_file={models}"]
    )
    flags = {
        "rest_api_port": rest,
        "port": grpc,
        "file_system_poll_wait_seconds": max(1, round(settings.poll_wait_seconds)),
        "model_config_file_poll_wait_seconds": _whole(settings.config_poll_wait_seconds),
        "max_num_load_retries": settings.max_num_load_retries,
        "load_retry_interval_micros": round(settings.load_retry_seconds * 1e6),
        "allow_version_labels_for_unavailable_models": str(
            settings.allow_labels_for_unavailable
        ).lower(),
    }
    command = [str(binary), *served, *(f"--{name}={value}" for name, value in flags.items())]
    at = _at(rest, grpc)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + PATIENCE
            with connect(at.rest, "mnist", Options(attempts=1)) as client:
                while not client.answers():  # its ports open when a version is loaded
                    if process.poll() is not None:
                        log.seek(0)
                        raise StartFailed(log.read().decode(errors="replace"))
                    assert time.monotonic() < deadline, "it does not answer"
                    time.sleep(0.05)
            yield at
        finally:
            process.kill()
            process.wait()


def _whole(seconds: float) -> int:
    return max(1, round(seconds)) if seconds else 0


def _at(rest: int, grpc: int) -> Addresses:
    return Addresses(f"http://127.0.0.1:{rest}", f"grpc://127.0.0.1:{grpc}")


class Load:
    """Requests at a constant rate, none of them sent twice, until the block ends: `report`.

    `answers` are the versions that answered so far, `failures` counts what failed.
    """

    def __init__(self, url: str, label: str | None = "stable") -> None:
        self._over, self._label = threading.Event(), label
        self._client = connect(url, "mnist", Options(attempts=1, timeout=PATIENCE))
        self._thread = threading.Thread(target=self._run)
        self.report = Report([])
        self.answers: list[int | None] = []
        self.failures = 0

    def _ask(self) -> Prediction:
        try:
            answer = self._client.predict(FEATURES, label=self._label)
        except Exception:
            self.failures += 1
            raise
        self.answers.append(answer.version)
        return answer

    def _run(self) -> None:
        self.report = open_load(
            self._ask,
            RATE,
            3600,
            connections=16,
            stopped=self._over.is_set,
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._client.close()
