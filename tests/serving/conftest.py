"""Served folders for tests."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bnpipe.data.dataset_info import DatasetInfo
from tests import child
from tests.serving.folder.served import push, saved_model

MakeModel = Callable[[str], Path]
INFO = DatasetInfo("mnist", "3.0.1", 28, 28, tuple("0123456789"), {}, True)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that do not pull the plug; those that do are in test_publish_faults.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "served" / "mnist"


@pytest.fixture
def model(tmp_path: Path) -> MakeModel:
    return lambda content: saved_model(tmp_path / "models" / content, content)


@pytest.fixture
def model_a(model: MakeModel) -> Path:
    return model("a")


@pytest.fixture
def model_b(model: MakeModel) -> Path:
    return model("b")


@pytest.fixture
def model_c(model: MakeModel) -> Path:
    return model("c")


@pytest.fixture
def three(base: Path, model: MakeModel) -> Path:
    for content in "abc":
        push(base, model(content))
    return base


@pytest.fixture(params=["memory", "file", *(["s3"] if child.S3 in os.environ else [])])
def url(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ[child.S3])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        import s3fs

        bucket = uuid.uuid4().hex
        s3fs.S3FileSystem().mkdir(bucket)
        yield f"s3://{bucket}/mnist"
    elif request.param == "file":
        yield f"file://{tmp_path}/bucket/mnist"
    else:
        yield f"memory://{uuid.uuid4().hex}/mnist"
        MemoryFileSystem.store.clear()


@pytest.fixture
def memory() -> Iterator[str]:
    yield f"memory://{uuid.uuid4().hex}/mnist"
    MemoryFileSystem.store.clear()


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two SavedModels that answer differently."""
    from bnpipe.serving.export import classifier
    from bnpipe.serving.export.folding import Dense, Relu

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
    from bnpipe.serving.folder.publish import publish

    base = tmp_path_factory.mktemp("served") / "mnist"
    publish(
        base,
        exports[0],
        model_name="mnist",
        provenance={"dataset": {"name": "mnist"}},
        compared_with=None,
    )
    return base
