"""A canary is judged by what clients would see; a broken server is no verdict."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bnpipe.serving.client.base import Client, Options, Prediction, ServerError
from bnpipe.serving.client.soak import FEWEST, Limits, Side, Soaked, soak
from bnpipe.serving.errors import ServingError

FEATURES = np.arange(10, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
RULES = Limits(seconds=40, rate=5)


class Answers(Client):
    """Answers with the image's first pixel, unless a label is told to do something else."""

    def __init__(self, **special: Callable[[int], int]) -> None:
        super().__init__("digits", Options(attempts=1))
        self.special = special
        self.asked: list[str] = []

    def predict(self, inputs: Any, *, label: str | None = None, **_: Any) -> Prediction:
        assert label is not None
        self.asked.append(label)
        class_id = int(inputs["features"][0, 0])
        if label in self.special:
            class_id = self.special[label](class_id)
        return Prediction({"class_id": np.array([class_id])}, None)

    def _predict(self, *_: Any, **__: Any) -> Any: ...

    def _classify(self, *_: Any, **__: Any) -> Any: ...

    def status(self, *_: Any, **__: Any) -> Any: ...

    def metadata(self, *_: Any, **__: Any) -> Any: ...

    def close(self) -> None: ...


def every(number: int, otherwise: Callable[[int], int]) -> Callable[[int], int]:
    turns = itertools.count(1)
    return lambda class_id: otherwise(class_id) if next(turns) % number == 0 else class_id


def fail(_: int) -> int:
    raise ServerError("Servable not found for request: Specific(digits, 5)", status=404)


def soaked(client: Client, rules: Limits = RULES, **more: Any) -> Soaked:
    return soak(client, FEATURES, rules, sleep=lambda _: None, **more)


def test_a_canary_like_the_stable_version_passes() -> None:
    client = Answers()
    outcome = soaked(client)
    assert outcome.passed
    assert (outcome.pairs, outcome.agreement) == (200, 1.0)
    assert client.asked.count("stable") == client.asked.count("canary") == 200
    assert client.asked[:4] == ["canary", "stable", "stable", "canary"]
    assert outcome.canary.requests == outcome.stable.requests == 200


def test_a_canary_that_fails_is_refused_with_the_servers_words() -> None:
    outcome = soaked(Answers(canary=every(10, fail)))
    assert not outcome.passed
    assert "failed 20 of 200 requests, the stable version 0: Servable not found" in outcome.sentence


def test_failures_that_both_share_are_not_the_canarys() -> None:
    outcome = soaked(Answers(canary=every(10, fail), stable=every(10, fail)))
    assert outcome.passed


def test_a_canary_of_another_opinion_is_refused() -> None:
    outcome = soaked(Answers(canary=every(5, lambda class_id: class_id + 1)))
    assert not outcome.passed
    assert "40 of 200 images something else" in outcome.sentence
    assert soaked(Answers(canary=every(20, lambda class_id: class_id + 1))).passed


def test_a_slow_canary_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("bnpipe.serving.client.soak.time.perf_counter", lambda: clock[0])

    def take(seconds: float) -> Callable[[int], int]:
        def answer(class_id: int) -> int:
            clock[0] += seconds
            return class_id

        return answer

    assert soaked(Answers(stable=take(0.01), canary=take(0.02))).passed
    outcome = soaked(Answers(stable=take(0.01), canary=take(0.04)))
    assert not outcome.passed
    assert "40.0 ms (p95), the stable version 10.0 ms" in outcome.sentence
    # Both are instant; the ratio would be noise.
    assert soaked(Answers(stable=take(0.0001), canary=take(0.004))).passed


def test_a_server_that_is_down_decides_nothing() -> None:
    client = Answers(stable=fail, canary=fail)
    with pytest.raises(ServingError, match=f"failed {FEWEST} of {FEWEST} probes .*: Servable not"):
        soaked(client)
    assert len(client.asked) == 2 * FEWEST  # it is not asked for hours


def test_a_server_that_dies_on_the_way_decides_nothing() -> None:
    def dying() -> Callable[[int], int]:
        turns = itertools.count()
        return lambda class_id: class_id if next(turns) < 50 else fail(class_id)

    with pytest.raises(ServingError, match=f"failed {FEWEST} of {50 + FEWEST} probes"):
        soaked(Answers(stable=dying(), canary=dying()))


def test_a_soak_whose_answers_take_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=5)
    monkeypatch.setattr("bnpipe.serving.client.soak.time.monotonic", lambda: next(clock))
    assert FEWEST <= soaked(Answers()).pairs < 200


def test_a_stable_version_that_is_down_decides_nothing() -> None:
    with pytest.raises(ServingError, match="probes of the stable version"):
        soaked(Answers(stable=fail))


def test_somebody_else_decided() -> None:
    turns = itertools.count()
    with pytest.raises(ServingError, match="promoted or withdrawn during its soak"):
        soaked(Answers(), still_canary=lambda: next(turns) < 5)


def test_a_short_soak_still_asks_often_enough() -> None:
    assert soaked(Answers(), Limits(seconds=0.1, rate=1)).pairs == FEWEST


def test_a_side_without_probes_has_no_latency() -> None:
    assert np.isnan(Side().p95)
    assert Side().error_share == 0.0
