"""Soaking a version: labelled images go to it and to the one it is measured by, in pairs.

The server's own metrics carry no version, so we ask from outside, as a client would. After every
pair three questions are asked of every server, by tests that may be looked at at any time
(`client.paired`): does the version know fewer images, does it fail more requests, is it slower?
What is shown, and larger than its margin as measured, ends the soak at once. Shown that it knows
no fewer images than the margin allows, it passes when the time is up; else nothing is shown. A
server that fails for both says nothing of the version: that is a fault to be tried again. So does
one that cannot be reached, or has yet to load the version, as after a restart: a failure counts
against a version that is loaded, where the other one answers. A connection that dies under a
request counts against the version that was asked, whatever the other one finds after that: it may
have crashed the server.

What the pairs have come to may be kept and gone on with: to stop and to look, however often, is
what these tests allow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client.base import Client, LoadFailed, ServerError
from bnpipe.serving.client.paired import Paired
from bnpipe.serving.errors import ServingError

LEVEL: Final = 0.01
"""Probability that any test of a soak is wrong at any time, of all tests on all servers."""
FEWEST: Final = 20
"""Pairs in a row that say nothing of the version, after which a server is asked no more."""
_TRIES = 5  # of an image, before the one behind it is tried
_UNWELL: Final = 0.25
"""A server whose stable version fails so large a share of the probes says nothing of the canary."""
_LATE: Final = 2.0
"""Where answers are slow, a soak takes so many times its seconds at most."""
_QUICK_MS = 5.0  # see `Rules.latency_margin`
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
        latency_margin: of latency, as a share of the other's, or of 5 ms where that is less: the
            ratio of quicker answers is the machine's noise.
    """

    seconds: float = 600.0
    rate: float = 5.0
    margin: float = 0.01
    error_margin: float = 0.002
    latency_margin: float = 0.2


@dataclass(frozen=True)
class Side:
    """A version as it is asked for at a server in this attempt.

    Attributes:
        name: what it is called in sentences.
        address: `label` or `version` of the requests.
        errors: failed requests, by reason: of the new version its own, of the old one all others.
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


@dataclass
class Evidence:
    """All that the pairs have come to, in as many attempts as there were.

    Attributes:
        turns: pairs that were asked for, also those that nobody answered.
        left: images that were not asked yet; those of pairs that nobody answered are asked again.
        shown: whether, at some time, it was shown that the version is not worse by the margin.
        watches: by address; "" for all servers together.
    """

    turns: int = 0
    left: int = 0
    shown: bool = False
    watches: dict[str, Watch] = field(default_factory=dict)

    @property
    def is_exhausted(self) -> bool:
        """True when every image was asked for, and nothing is shown."""
        return self.turns > 0 and not self.left and not self.shown


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
    version: int | None = None,
    old_version: int | None = None,
    evidence: Evidence | None = None,
    keep: Callable[[Evidence], None] = lambda _: None,
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
        old: how the one that it is measured by is asked for. By its number it may fail as it
            likes: it is not what clients ask for.
        version: the number of the new one, for which a server says whether it has loaded it.
        old_version: the number of the old one.
        evidence: of the attempts before. A soak that was cut short is gone on with to its end, one
            that was not is followed by another.
        keep: called with all evidence so far, now and then and at the end, however that comes. If
            it cannot keep it, that costs time, and ends nothing.
        check: raises when the versions are no longer what they were; called before every pair.
        sleep: waits so many seconds.

    Raises:
        ServingError: a server fails for the old version too, or cannot be reached, or `check` says
            so: no verdict.
    """
    if not servers:
        raise ServingError("there is no server to ask", hint="--set serving.server_url=URL")
    seen = evidence or Evidence()
    trial = _Trial(servers, rules, new, old, (version, old_version), seen)
    order = np.random.default_rng(0).permutation(len(features))
    turns = max(FEWEST * len(servers), round(rules.seconds * rules.rate * len(servers)))
    pace, every = 1 / (rules.rate * len(servers)), max(turns // _POINTS, 1)
    started, first, path = time.monotonic(), seen.turns, []
    seen.left = seen.left if seen.turns else len(order)
    try:
        for turn in range(first, (first // turns + 1) * turns):
            began = time.monotonic()
            if turn - first >= FEWEST and began - started > _LATE * rules.seconds:
                break
            check()
            address = list(servers)[turn % len(servers)]
            # An image that nobody answers is asked again, and passed over if the next is.
            place = len(order) - seen.left + trial.silent[address] // _TRIES
            row = order[(place if place < len(order) else turn) % len(order)]
            # Seen again, an image tells of errors and latency only: the answer is the same.
            label = int(labels[row]) if place < len(order) else None
            seen.turns = turn + 1
            image, first_new = features[row][np.newaxis], turn // len(servers) % 2 == 0
            trial.ask(address, servers[address], image, label, first_new=first_new)
            if not trial.silent[address]:
                seen.left = max(len(order) - place - 1, 0)
            failed = trial.failure(address)
            if failed or turn % every == every - 1:
                accuracy = trial.total.accuracy
                lower, upper = accuracy.band(trial.accuracy_level)
                at = time.monotonic() - started
                path.append(Point(round(at, 1), accuracy.pairs, accuracy.mean, lower, upper))
                _try_to_keep(keep, seen)
            if failed:
                return Soaked(Verdict.FAIL, failed, trial.total, path, rules.margin)
            sleep(max(0.0, pace - (time.monotonic() - began)))
        return trial.end(path)
    finally:
        _try_to_keep(keep, seen)


def _try_to_keep(keep: Callable[[Evidence], None], seen: Evidence) -> None:
    """A full disk must not take the place of what was shown, nor of a signal to stop."""
    with suppress(ServingError, OSError):
        keep(seen)


class _Trial:
    """The pairs of a soak."""

    def __init__(
        self,
        servers: Mapping[str, Client],
        rules: Rules,
        new: Mapping[str, Any],
        old: Mapping[str, Any],
        versions: tuple[int | None, int | None],
        seen: Evidence,
    ) -> None:
        self.rules, self.seen = rules, seen
        self._version, self._old_version = versions
        self.level = LEVEL / 3 / len(servers)
        # That of all servers together is tested too; of one it is the same.
        self.accuracy_level = LEVEL / 3 / (len(servers) + (len(servers) > 1))
        self.total, *watches = (seen.watches.setdefault(a, Watch()) for a in ("", *servers))
        self._watches = dict(zip(servers, watches, strict=True))
        self.silent, self._asked = dict.fromkeys(servers, 0), dict.fromkeys(servers, 0)
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
        up = not self.silent[address]
        lost = _is_own(client, new, self._version, ours, theirs, up=up and first_new)
        won = _is_own(client, old, self._old_version, theirs, ours, up=up and not first_new)
        # By its number it may fail as it likes, and makes up for nothing.
        free = won and "version" in old.address
        shown = (ours, theirs) if lost else (theirs, ours)
        error = next((a for a in shown if isinstance(a, ServerError)), None)
        silent = error is not None and not lost and not free
        if error is not None and (silent or lost):
            (new if lost else old).errors[error.first_line[:200]] += 1
        self.silent[address] = self.silent[address] + 1 if silent else 0
        self._asked[address] += 1
        for watch in (self._watches[address], self.total):
            watch.errors.add((won and not free) - lost)
            if error is not None:
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
        self.seen.shown |= self.total.accuracy.is_above(-self.rules.margin, LEVEL)

    def failure(self, address: str) -> str:
        """What is shown against the version at a server; empty if nothing is.

        Raises:
            ServingError: the server is unwell.
        """
        watch, new, old = self._watches[address], self._new[address], self._old[address]
        if self.silent[address] == FEWEST:
            self._require_well(address)
        if watch.errors.is_worse(self.level) and -watch.errors.mean > self.rules.error_margin:
            counts = f"{watch.errors.worse} of {watch.errors.pairs} requests at {address}"
            why = "".join(f": {reason}" for reason, _ in new.errors.most_common(1))
            return f"{new.name} failed {counts}, {old.name} {watch.errors.better}{why}"
        for known, where in ((watch, address), (self.total, "all servers")):
            accuracy = known.accuracy
            if accuracy.is_worse(self.accuracy_level) and -accuracy.mean > self.rules.margin:
                worse = f"{new.name} knows fewer images than {old.name} at {where}"
                return f"{worse}: {self._accuracy(known)}"
        median, tail = watch.latency, watch.tail
        if median.is_worse(self.level / 2) or (
            tail.is_worse(self.level / 2) and -tail.mean > _TAIL_MARGIN
        ):
            times = " against ".join(
                f"{np.percentile(side.milliseconds, 50):.1f} ms (p95 "
                f"{np.percentile(side.milliseconds, _TAIL):.1f} ms)"
                for side in (new, old)
                if new.milliseconds and old.milliseconds  # else shown by the attempts before
            )
            return (
                f"{new.name} is slower than {old.name} at {address}: {times or 'as shown'} "
                f"over {median.pairs} pairs, margin {self.rules.latency_margin:.0%}"
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
        if not self.seen.shown:
            verdict = Verdict.INCONCLUSIVE
            sentence = f"not shown to be as good: {self._accuracy(self.total)}"
        return Soaked(verdict, sentence, self.total, path, self.rules.margin)

    def _accuracy(self, watch: Watch) -> str:
        level = LEVEL if watch is self.total else self.accuracy_level
        lower, upper = watch.accuracy.band(level)
        return (
            f"{100 * watch.accuracy.mean:+.2f} points of accuracy over {watch.accuracy.pairs} "
            f"images, between {100 * lower:+.2f} and {100 * upper:+.2f}, margin "
            f"{100 * self.rules.margin:g}"
        )

    def _require_well(self, address: str) -> None:
        old, requests = self._old[address], self._asked[address]
        failed = old.errors.total()
        if failed > _UNWELL * requests or self.silent[address] == FEWEST:
            raise ServingError(
                f"{address} failed {failed} of {requests} probes: "
                f"{old.errors.most_common(1)[0][0]}",
                hint="nothing is decided; see to the server",
            )


def _is_own(
    client: Client,
    side: Side,
    version: int | None,
    mine: int | ServerError,
    other: int | ServerError,
    *,
    up: bool,
) -> bool:
    """True if an answer is a failure of the version's own.

    Not that of a server that cannot be reached, or has not got so far after a restart: then the
    label is unknown, or the version has yet to be loaded. One that it gave up to load fails. A
    connection dies by the request if the server was `up` just before, or answers just after.
    """
    if not isinstance(mine, ServerError):
        return False
    if mine.broken or isinstance(other, ServerError) or mine.status == 0:
        return mine.broken and (up or not isinstance(other, ServerError))
    label = side.address.get("label")
    if version is None or label is None:
        return True
    try:
        client.state(version)
    except LoadFailed:
        return True
    return client.version_behind(label) == version


def _ask(client: Client, image: npt.NDArray[np.float32], side: Side) -> int | ServerError:
    began = time.perf_counter()
    try:
        answer = client.predict({"features": image}, **side.address)
    except ServerError as error:
        return error
    side.milliseconds.append(1e3 * (time.perf_counter() - began))
    return int(np.asarray(answer.outputs["class_id"]).reshape(-1)[0])
