"""Served folders for tests."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.serving.served import push, saved_model

MakeModel = Callable[[str], Path]


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


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "file":
        yield f"file://{tmp_path}/bucket/mnist"
    else:
        yield f"memory://{uuid.uuid4().hex}/mnist"
        MemoryFileSystem.store.clear()


@pytest.fixture
def memory() -> Iterator[str]:
    yield f"memory://{uuid.uuid4().hex}/mnist"
    MemoryFileSystem.store.clear()
