"""A bench on small data, in this process."""

from collections.abc import Callable

import numpy as np
import pytest

from bnpipe.components.network.examples import InMemory
from bnpipe.components.study.arms import ARMS
from bnpipe.components.study.training import Bench, Data


@pytest.fixture(scope="session")
def data(make_blobs: Callable[..., dict[str, tuple[np.ndarray, np.ndarray]]]) -> Data:
    sizes = {"train": 3219, "validation": 300, "test": 300}
    splits = {
        name: InMemory(features, labels.astype(np.int32))
        for name, (features, labels) in make_blobs(sizes, (6, 6), 10).items()
    }
    return Data(**splits, doubtful=np.arange(300) < 5, classes=10)


@pytest.fixture(scope="session")
def bench(data: Data) -> Callable[..., Bench]:
    made: dict[tuple[str, int, str], Bench] = {}

    def of(arm: str, depth: int = 2, optimizer: str = "adam") -> Bench:
        key = arm, depth, optimizer
        if key not in made:
            made[key] = Bench(data, ARMS[arm], depth, optimizer)
        return made[key]

    return of
