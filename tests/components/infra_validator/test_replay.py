"""Which answers of a server are right, asked of the stand-in in this process."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.base import Ruling
from bnpipe.components.infra_validator.replay import latency, replay
from bnpipe.components.infra_validator.servers import MODEL
from bnpipe.serving.client.base import Client, Options, Prediction, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.export.golden import Golden
from tests.components.infra_validator.candidates import ROWS


@pytest.fixture(scope="module")
def golden(exported: Path) -> Golden:
    return Golden.read(exported / "golden.npz")


@pytest.fixture(scope="module")
def clients(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Client]]:
    """REST and gRPC to a running stand-in."""
    from bnpipe.serving.local.config import ModelEntry
    from bnpipe.serving.local.server import LocalServer
    from bnpipe.serving.local.states import Settings

    base = tmp_path_factory.mktemp("base")
    (base / "1").symlink_to(exported / "saved_model")
    server = LocalServer([ModelEntry(MODEL, str(base))], Settings())
    ports = {"http": server.rest_port, "grpc": server.grpc_port}
    opened = [
        connect(f"{scheme}://127.0.0.1:{port}", MODEL, Options(attempts=1))
        for scheme, port in ports.items()
    ]
    yield opened
    for client in opened:
        client.close()
    server.stop()


def failed(checks: list[Ruling]) -> dict[str, str]:
    return {check.name: check.sentence for check in checks if check.outcome == "block"}


def changed(golden: Golden, signature: str, output: str, change: Any) -> Golden:
    """Golden answers that differ in one output."""
    answers = {name: dict(outputs) for name, outputs in golden.answers.items()}
    answers[signature][output] = change(answers[signature][output].copy())
    return replace(golden, answers=answers)


def test_right_answers_pass(clients: Any, golden: Golden) -> None:
    checks = replay(golden, *clients)
    assert failed(checks) == {}
    told = {check.name: check.sentence for check in checks}
    assert list(told) == [
        "predict over REST",
        "predict over gRPC",
        "classify over REST",
        "classify over gRPC",
        "batch invariance",
    ]
    assert told["predict over gRPC"].startswith("5 signatures, largest difference")


def shift(array: Any) -> Any:
    array[2, 1] += 2e-5
    return array


def test_a_probability_that_differs_is_told(clients: Any, golden: Golden) -> None:
    told = failed(replay(changed(golden, "serve_png", "probabilities", shift), *clients))
    assert set(told) == {"predict over REST", "predict over gRPC", "batch invariance"}
    assert (
        "serve_png: probabilities differs by 2e-05 from the evaluator's"
        in (told["predict over gRPC"])
    )


def test_what_rounding_does_to_large_numbers_is_no_difference(clients: Any, golden: Golden) -> None:
    off = changed(golden, "serve_png", "probabilities", shift)
    assert failed(replay(off, *clients, 1e-4)) == {}


def test_another_class_is_told(clients: Any, golden: Golden) -> None:
    wrong = changed(golden, "serve_images", "class_id", lambda a: (a + 1) % 4)
    assert (
        "serve_images: class_id of row 0: expected"
        in (failed(replay(wrong, *clients))["predict over REST"])
    )


def test_labels_and_scores_of_classify_are_compared(clients: Any, golden: Golden) -> None:
    labels = changed(golden, "classify", "classes", lambda a: a[:, ::-1])
    assert "classify: classes of row 0" in failed(replay(labels, *clients))["classify over REST"]
    scores = changed(golden, "classify", "scores", shift)
    assert "scores differs by" in failed(replay(scores, *clients))["classify over gRPC"]


def test_answers_that_are_no_numbers_are_wrong(clients: Any, golden: Golden) -> None:
    nothing = changed(golden, "serving_default", "probabilities", lambda a: a * np.nan)
    assert "predict over REST" in failed(replay(nothing, *clients))


def test_a_missing_output_is_told(clients: Any, golden: Golden) -> None:
    answers = {**golden.answers, "serve_png": {"logits": np.zeros((ROWS, 4), np.float32)}}
    told = failed(replay(replace(golden, answers=answers), *clients))
    assert (
        "expected ['logits'], received ['class_id', 'probabilities']" in (told["predict over gRPC"])
    )


class DependsOnBatch:
    """A gRPC client whose model answers as batch normalisation in training mode would."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def predict(self, inputs: Any, **options: Any) -> Prediction:
        found = self._client.predict(inputs, **options)
        rows = len(next(iter(inputs.values())))
        moved = {
            name: array + (1e-3 if rows == 1 and array.dtype == np.float32 else 0)
            if array.dtype != object
            else array
            for name, array in found.outputs.items()
        }
        return Prediction(moved, found.version)


def test_answers_that_depend_on_the_batch_are_told(clients: Any, golden: Golden) -> None:
    rest, grpc = clients
    told = failed(replay(golden, rest, DependsOnBatch(grpc)))  # type: ignore[arg-type]
    assert list(told) == ["batch invariance"]
    assert "serving_default with 1 row: probabilities differs by 0.001" in told["batch invariance"]


def test_a_request_that_the_server_refuses_is_told_in_its_words(
    clients: Any, golden: Golden
) -> None:
    requests = {**golden.requests, "serving_default": {"features": np.zeros((ROWS, 3), "f4")}}
    told = failed(replay(replace(golden, requests=requests), *clients))
    assert "the server refused: " in told["predict over REST"]
    assert "Matrix size-incompatible" in told["predict over gRPC"]


def test_a_server_that_is_gone_is_a_fault(golden: Golden) -> None:
    nowhere = [connect(f"{s}://127.0.0.1:9", MODEL, Options(attempts=1)) for s in ("http", "grpc")]
    with pytest.raises(ServerError, match="no server at"):
        replay(golden, *nowhere)  # type: ignore[arg-type]


def test_latency_is_measured(clients: Any, golden: Golden) -> None:
    for client in clients:
        median, slowest = latency(client, golden, 5)
        assert 0 < median <= slowest
