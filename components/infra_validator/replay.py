"""Asks a running server what the evaluator asked, and compares. Heavy: gRPC's messages.

Warmup requests need no check: a server that serves has replayed them while it loaded the model.
Every check ends in words: the largest difference, or the first thing that did not agree. A server
that gives no answer at all is a fault and ends the replay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2

from bnpipe.components.base import Ruling
from bnpipe.serving.client.base import Client, ServerError
from bnpipe.serving.export.golden import Arrays, Golden
from bnpipe.serving.export.signatures import CLASSIFY, DEFAULT

TOLERANCE = 1e-5
LARGE_BATCH = 64
_NO_ANSWER = (0, 4, 14, 504)  # no connection; gRPC's DEADLINE_EXCEEDED and UNAVAILABLE; HTTP's


class WrongAnswer(Exception):
    """An answer is not the evaluator's."""


def replay(
    golden: Golden, rest: Client, grpc: Client, tolerance: float = TOLERANCE
) -> list[Ruling]:
    """All checks, e.g. `predict over REST`; one that fails blocks, as a larger difference does.

    Raises:
        ServerError: the server gave no answer.
    """
    asked = [
        ("predict over REST", partial(_predict, rest, golden, tolerance)),
        ("predict over gRPC", partial(_predict, grpc, golden, tolerance)),
        ("classify over REST", partial(_classify, rest, golden, tolerance)),
        ("classify over gRPC", partial(_classify, grpc, golden, tolerance)),
        ("batch invariance", partial(_batches, grpc, golden, tolerance)),
    ]
    return [_ruling(name, ask) for name, ask in asked]


def latency(client: Client, golden: Golden, count: int) -> tuple[float, float]:
    """Median and 99th percentile of requests with one row, one after the other, in ms."""
    row = _rows(golden.requests[DEFAULT], np.arange(1))
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        client.predict(row)
        seconds.append(time.perf_counter() - started)
    median, slowest = np.percentile(seconds, (50, 99)) * 1e3
    return round(float(median), 3), round(float(slowest), 3)


def _ruling(name: str, ask: Callable[[], str]) -> Ruling:
    try:
        return Ruling(name, "block", "ok", ask())
    except WrongAnswer as error:
        return Ruling(name, "block", "block", f"{name}: {error}")
    except ServerError as error:
        if error.status in _NO_ANSWER:
            raise
        return Ruling(name, "block", "block", f"{name}: the server refused: {error.headline}")


def _predict(client: Client, golden: Golden, tolerance: float) -> str:
    """Every signature, all rows at once."""
    largest = 0.0
    for signature, request in golden.requests.items():
        answer = client.predict(request, signature=signature).outputs
        largest = max(largest, _difference(signature, answer, golden.answers[signature], tolerance))
    return f"{len(golden.requests)} signatures, {_largest(largest)}"


def _classify(client: Client, golden: Golden, tolerance: float) -> str:
    """The labels and scores of every class, by the Classify interface."""
    examples = [_features(record) for record in golden.requests[CLASSIFY]["inputs"]]
    rows = client.classify(examples, signature=CLASSIFY)
    received = {
        "classes": np.array([[label.encode() for label, _ in row] for row in rows], np.object_),
        "scores": np.array([[score for _, score in row] for row in rows], np.float32),
    }
    return _largest(_difference(CLASSIFY, received, golden.answers[CLASSIFY], tolerance))


def _features(record: bytes) -> Mapping[str, list[float]]:
    features = example_pb2.Example.FromString(record).features.feature
    return {name: list(feature.float_list.value) for name, feature in features.items()}


def _batches(client: Client, golden: Golden, tolerance: float) -> str:
    """A row gets the same answer alone, among the others, and in a large batch.

    Batch normalisation that was exported in training mode fails here.
    """
    batches = [np.arange(row, row + 1) for row in range(golden.rows)]
    batches.append(np.arange(LARGE_BATCH) % golden.rows)
    largest = 0.0
    for signature, request in golden.requests.items():
        for rows in batches:
            answer = client.predict(_rows(request, rows), signature=signature).outputs
            expected = _rows(golden.answers[signature], rows)
            where = f"{signature} with {len(rows)} row{'s' * (len(rows) > 1)}"
            largest = max(largest, _difference(where, answer, expected, tolerance))
    return f"{golden.rows} rows alone and in batches of {LARGE_BATCH}, {_largest(largest)}"


def _rows(arrays: Arrays, rows: Any) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _difference(
    where: str, received: Mapping[str, Any], expected: Arrays, tolerance: float
) -> float:
    """The largest difference between numbers.

    Raises:
        WrongAnswer: it is more than the tolerance, or anything else differs.
    """
    if set(received) != set(expected):
        raise WrongAnswer(f"{where}: expected {sorted(expected)}, received {sorted(received)}")
    largest = 0.0
    for name, right in expected.items():
        answer = np.asarray(received[name])
        if answer.shape != right.shape:
            raise WrongAnswer(
                f"{where}: {name}: expected the shape {list(right.shape)}, "
                f"received {list(answer.shape)}"
            )
        if right.dtype.kind == "f":
            difference = float(np.max(np.abs(answer.astype(np.float64) - right), initial=0.0))
            if not difference <= tolerance:  # also where it is NaN
                raise WrongAnswer(
                    f"{where}: {name} differs by {difference:.2g} from the evaluator's: "
                    f"expected at most {tolerance:g}"
                )
            largest = max(largest, difference)
        elif not np.array_equal(answer, right):
            row = int(np.argmax((answer != right).reshape(len(right), -1).any(axis=1)))
            raise WrongAnswer(
                f"{where}: {name} of row {row}: expected {right[row]}, received {answer[row]}"
            )
    return largest


def _largest(difference: float) -> str:
    return f"largest difference {difference:.1g}"
