"""One stand-in per test session, in this process; or a real server, by --rest-url/--grpc-addr.

pytest tests/serving/local/test_cases.py --rest-url http://HOST:8501 --grpc-addr HOST:8500
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.dataset_info import DatasetInfo

HEIGHT = WIDTH = 28
INFO = DatasetInfo("mnist", "3.0.1", HEIGHT, WIDTH, tuple("0123456789"), {}, True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rest-url", help="a running server, e.g. http://127.0.0.1:8501")
    parser.addoption("--grpc-addr", help="the same server's gRPC, e.g. 127.0.0.1:8500")
    parser.addoption("--model-name", default="mnist", help="the model that it serves")


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two SavedModels that answer differently."""
    from bnpipe.serving import classifier
    from bnpipe.serving.folding import Dense, Relu

    folders = []
    for seed in range(2):
        generator = np.random.default_rng(seed)

        def weights(*shape: int, generator: np.random.Generator = generator) -> np.ndarray:
            return (generator.normal(size=shape) / 8).astype(np.float32)

        layers = [
            Dense("hidden", weights(INFO.features, 16), weights(16)),
            Relu("relu"),
            Dense("logits", weights(16, INFO.classes), weights(INFO.classes)),
        ]
        folder = tmp_path_factory.mktemp("exports") / str(seed)
        classifier.export(folder, layers, INFO)
        folders.append(folder)
    return folders


@pytest.fixture(scope="session")
def served(exports: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A served folder with one version, as `publish` leaves it."""
    from bnpipe.serving.publish import publish

    base = tmp_path_factory.mktemp("served") / "mnist"
    publish(
        base,
        exports[0],
        model_name="mnist",
        provenance={"dataset": {"name": "mnist"}},
        compared_with=None,
    )
    return base


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
