"""A server for all cases of a session, once the stand-in and once TensorFlow Serving.

Cases have numbers, by which other tests and notes name them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bnpipe.serving.local.states import Settings
from tests.serving.conformance.asking import Target
from tests.serving.model_server import serving


@pytest.fixture(scope="session")
def target(binary: Path | None, served: Path) -> Iterator[Target]:
    """Serves version 1 of `mnist`; it has the label `stable`, given once it was loaded."""
    with serving(binary, served, Settings(poll_wait_seconds=0.2)) as at:
        found = Target(at.rest, at.grpc.removeprefix("grpc://"))
        model = {"name": "mnist", "base_path": str(served), "model_platform": "tensorflow"}
        found.reload(model, labels={"stable": 1})
        yield found
        found.close()
