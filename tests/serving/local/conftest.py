"""One stand-in per test session, in this process."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def server(served: Path) -> Iterator[object]:
    """A running stand-in; it serves the published folder.

    Labels come once the version is loaded: the server does not allow them before.
    """
    from bnpipe.serving.local import config
    from bnpipe.serving.local.server import LocalServer
    from bnpipe.serving.local.states import Settings

    (entry,) = config.read(served / "models.config")
    running = LocalServer([dataclasses.replace(entry, labels={})], Settings(poll_wait_seconds=0.2))
    running.manager.reload([entry])
    yield running
    running.stop()


@pytest.fixture(scope="session")
def rest_url(server: object) -> str:
    return f"http://127.0.0.1:{server.rest_port}"


@pytest.fixture(scope="session")
def grpc_url(server: object) -> str:
    return f"grpc://127.0.0.1:{server.grpc_port}"
