"""Soaking a version: labelled images go to it and to the one it is measured by, in pairs.

The server's own metrics carry no version, so we ask from outside, as a client would. After every
pair three questions are asked of every server, by tests that may be looked at at any time
(`client.paired`): does the version know fewer images, does it fail more requests, is it slower?
What is shown, and larger than its margin as measured, ends the soak at once. Shown that it knows
no fewer images than the margin allows, it passes when the time is up; else nothing is shown. A
server that fails for both says nothing of the version: that is a fault to be tried again.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client.base import Client, ServerError
from bnpipe.serving.client.paired import Paired
from bnpipe.serving.errors import ServingError

LEVEL: Final = 0.01
"""Probability that any test of a soak is wrong at any time, of all tests on all servers."""
FEWEST: Final = 20
"""Probes after which a server that answers none is asked no more."""
_UNWELL: Final = 0.25
"""A server whose stable version fails so large a share of the probes says nothing of the canary."""
_LATE: Final = 2.0
"""Where answers are slow, a soak takes so many times its seconds at most."""
_QUICK_MS = 5.0  # latencies below are as good as none: their ratio is the machine's noise
_TAIL = 95  # percentile of the latencies so far that makes an answer a slow one
_TAIL_MARGIN = 0.05
_POINTS = 60  # of the path


class Verdict(StrEnum):
    """The ways that a soak ends; a server that is unwell raises, for that decides nothing."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Rules:
    """The length of a soak, and the margins within which a version may be worse.

    Attributes:
        seconds: how long it is probed.
        rate: images a second for each server, each sent to both.
        margin: of accuracy, as a share of the images.
        error_margin: of failed requests, as a share of all.
        latency_margin: of latency, as a share of the other's.
    """

    seconds: float = 600.0
    rate: float = 5.0
    margin: float = 0.01
    error_margin: float = 0.002
    latency_margin: float = 0.2


@dataclass(frozen=True)
class Side:
    """A version as it is asked for, and the errors of its answers by reason.

    Attributes:
        name: what it is called in sentences.
        address: `label` or `version` of the requests.
        errors: failed requests, by reason.
        milliseconds: of the answered ones.
    """

    name: str
    address: Mapping[str, Any]
    errors: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)


STABLE: Final[Mapping[str, Any]] = {"label": "stable"}
CANARY: Final[Mapping[str, Any]] = {"label": "canary"}


@dataclass
class Watch:
    """All that is known of one server, or of all together."""

    accuracy: Paired = field(default_factory=Paired)
    errors: Paired = field(default_factory=Paired)
    latency: Paired = field(default_factory=Paired)
    tail: Paired = field(default_factory=Paired)


@dataclass(frozen=True)
class Point:
    """The difference of accuracy after so many pairs, and its band."""

    seconds: float
    pairs: int
    difference: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Soaked:
    """The end of a soak.

    Attributes:
        verdict: see there.
        sentence: the verdict in one line.
        total: the pairs of all servers.
        path: the difference of accuracy over time.
        margin: within which the version may be worse.
    """

    verdict: Verdict
    sentence: str
    total: Watch
    path: Sequence[Point] = ()
    margin: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def soak(
    servers: Mapping[str, Client],
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    rules: Rules,
    *,
    new: Mapping[str, Any] = CANARY,
    old: Mapping[str, Any] = STABLE,
    check: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Soaked:
    """Probe two versions and compare.

    Args:
        servers: clients by address; with one attempt per request, for retries hide failures.
        features: float32[N, D], sent one image at a time; all of them before any comes twice.
        labels: int64[N], their classes.
        rules: how long, and how much worse the new one may be.
        new: how the version on trial is asked for.
        old: how the one that it is measured by is asked for.
        check: raises when the versions are no longer what they were; called before every pair.
        sleep: waits so many seconds.

    Raises:
        ServingError: a server fails for the old version too, or `check` says so: no verdict.
    """
    if not servers:
        raise ServingError("there is no server to ask", hint="--set serving.server_url=URL")
    trial = _Trial(servers, rules, new, old)
    order = np.random.default_rng(0).permutation(len(features))
    turns = max(FEWEST * len(servers), round(rules.seconds * rules.rate * len(servers)))
    pace, every = 1 / (rules.rate * len(servers)), max(turns // _POINTS, 1)
    started = time.monotonic()
    path = []
    for turn, (address, client) in zip(
        range(turns), itertools.cycle(servers.items()), strict=False
    ):
        began = time.monotonic()
        if turn >= FEWEST and began - started > _LATE * rules.seconds:
            break
        check()
        row = order[turn % len(order)]
        # Seen again, an image tells of errors and latency only: the answer is the same.
        label = int(labels[row]) if turn < len(order) else None
        trial.ask(
            address,
            client,
            features[row][np.newaxis],
            label,
            first_new=turn // len(servers) % 2 == 0,
        )
        failed = trial.failure(address)
        if failed or turn % every == every - 1:
            accuracy = trial.total.accuracy
            lower, upper = accuracy.band(trial.level)
            at = time.monotonic() - started
            path.append(Point(round(at, 1), accuracy.pairs, accuracy.mean, lower, upper))
        if failed:
            return Soaked(Verdict.FAIL, failed, trial.total, path, rules.margin)
        sleep(max(0.0, pace - (time.monotonic() - began)))
    return trial.end(path)


class _Trial:
    """The pairs of a soak."""

    def __init__(
        self,
        servers: Mapping[str, Client],
        rules: Rules,
        new: Mapping[str, Any],
        old: Mapping[str, Any],
    ) -> None:
        self.rules = rules
        self.level = LEVEL / 3 / len(servers)
        self.total = Watch()
        self.shown = False
        self._watches = {address: Watch() for address in servers}
        self._silent = dict.fromkeys(servers, 0)
        names = [
            " ".join(f"v{v}" if k == "version" else v for k, v in a.items()) for a in (new, old)
        ]
        self._new = {address: Side(names[0], new) for address in servers}
        self._old = {address: Side(names[1], old) for address in servers}

    def ask(
        self,
        address: str,
        client: Client,
        image: npt.NDArray[np.float32],
        label: int | None,
        *,
        first_new: bool,
    ) -> None:
        """One pair; whoever comes second finds a warm cache, so they take turns."""
        new, old = self._new[address], self._old[address]
        before = old.milliseconds[-500:]
        sides = (new, old) if first_new else (old, new)
        answers = {side.name: _ask(client, image, side) for side in sides}
        ours, theirs = answers[new.name], answers[old.name]
        self._silent[address] = self._silent[address] + 1 if theirs is None else 0
        for watch in (self._watches[address], self.total):
            watch.errors.add((theirs is None) - (ours is None))
            if ours is None or theirs is None:
                continue
            if label is not None:
                watch.accuracy.add((ours == label) - (theirs == label))
            mine, other = new.milliseconds[-1], old.milliseconds[-1]
            limit = (1 + self.rules.latency_margin) * max(other, _QUICK_MS)
            watch.latency.add(-1 if mine > limit else 1)
            if len(before) >= FEWEST:
                usual = max(float(np.percentile(before, _TAIL)), _QUICK_MS)
                slow = (1 + self.rules.latency_margin) * usual
                watch.tail.add((other > slow) - (mine > slow))
        self.shown |= self.total.accuracy.is_above(-self.rules.margin, LEVEL)

    def failure(self, address: str) -> str:
        """What is shown against the version at a server; empty if nothing is.

        Raises:
            ServingError: the server is unwell.
        """
        watch, new, old = self._watches[address], self._new[address], self._old[address]
        if self._silent[address] == FEWEST:
            self._require_well(address)
        if watch.errors.is_worse(self.level) and -watch.errors.mean > self.rules.error_margin:
            return (
                f"{new.name} failed {new.errors.total()} of {watch.errors.pairs} requests at "
                f"{address}, {old.name} {old.errors.total()}: {new.errors.most_common(1)[0][0]}"
            )
        if watch.accuracy.is_worse(self.level) and -watch.accuracy.mean > self.rules.margin:
            worse = f"{new.name} knows fewer images than {old.name} at {address}"
            return f"{worse}: {self._accuracy(watch)}"
        median, tail = watch.latency, watch.tail
        if median.is_worse(self.level / 2) or (
            tail.is_worse(self.level / 2) and -tail.mean > _TAIL_MARGIN
        ):
            times = " against ".join(
                f"{np.percentile(side.milliseconds, 50):.1f} ms (p95 "
                f"{np.percentile(side.milliseconds, _TAIL):.1f} ms)"
                for side in (new, old)
            )
            return (
                f"{new.name} is slower than {old.name} at {address}: {times} over {median.pairs} "
                f"pairs, margin {self.rules.latency_margin:.0%}"
            )
        return ""

    def end(self, path: Sequence[Point]) -> Soaked:
        """The verdict when time is up.

        Raises:
            ServingError: a server is unwell.
        """
        for address in self._watches:
            self._require_well(address)
        sentence = f"{self._accuracy(self.total)}; no more errors, not slower"
        verdict = Verdict.PASS
        if not self.shown:
            verdict = Verdict.INCONCLUSIVE
            sentence = f"not shown to be as good: {self._accuracy(self.total)}"
        return Soaked(verdict, sentence, self.total, path, self.rules.margin)

    def _accuracy(self, watch: Watch) -> str:
        lower, upper = watch.accuracy.band(LEVEL if watch is self.total else self.level)
        return (
            f"{100 * watch.accuracy.mean:+.2f} points of accuracy over {watch.accuracy.pairs} "
            f"images, between {100 * lower:+.2f} and {100 * upper:+.2f}, margin "
            f"{100 * self.rules.margin:g}"
        )

    def _require_well(self, address: str) -> None:
        old, requests = self._old[address], self._watches[address].errors.pairs
        failed = old.errors.total()
        if failed > _UNWELL * requests or self._silent[address] == FEWEST:
            raise ServingError(
                f"{address} failed {failed} of {requests} probes of {old.name}: "
                f"{old.errors.most_common(1)[0][0]}",
                hint="nothing is decided; see to the server",
            )


def _ask(client: Client, image: npt.NDArray[np.float32], side: Side) -> int | None:
    began = time.perf_counter()
    try:
        answer = client.predict({"features": image}, **side.address)
    except ServerError as error:
        side.errors[error.first_line[:200]] += 1
        return None
    side.milliseconds.append(1e3 * (time.perf_counter() - began))
    return int(np.asarray(answer.outputs["class_id"]).reshape(-1)[0])
