"""Soaking a version: labelled images go to it and to the one it is measured by, in pairs.

The server's own metrics carry no version, so we ask from outside, as a client would. After every
pair three questions are asked of every server, by tests that may be looked at at any time
(`client.paired`): does the version know fewer images, does it fail more requests, is it slower?
What is shown, and larger than its margin as measured, ends the soak at once. Shown that it knows
no fewer images than the margin allows, it passes when the time is up; else nothing is shown. A
server that fails for both says nothing of the version: that is a fault to be tried again. So does
one that cannot be reached, or has yet to load the version, as after a restart: a failure counts
against a version that is loaded, where the other one answers.

What the pairs have come to may be kept and gone on with: to stop and to look, however often, is
what these tests allow.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


@dataclass
class Side:
    """A version as it is asked for at a server.

    Attributes:
        name: what it is called in sentences.
        address: `label` or `version` of the requests.
        version: its number, if that is known.
        milliseconds: of the requests that were answered.
        error: of the last request, if that was not.
    """

    name: str
    address: Mapping[str, Any]
    version: int | None
    milliseconds: list[float] = field(default_factory=list)
    error: ServerError | None = None

    def ask(self, client: Client, image: npt.NDArray[np.float32]) -> int | None:
        """The class of an image; None if the request failed."""
        began, self.error = time.perf_counter(), None
        try:
            answer = client.predict({"features": image}, **self.address)
        except ServerError as error:
            self.error = error
            return None
        self.milliseconds.append(1e3 * (time.perf_counter() - began))
        return int(np.asarray(answer.outputs["class_id"]).reshape(-1)[0])

    def owns_error(self, client: Client) -> bool:
        """True if the last request failed by the version, and not by its server.

        A server that cannot be reached, or has not loaded the version yet, as after a restart, says
        nothing of the version.
        """
        if self.error is None or self.error.status == 0 or self.version is None:
            return self.error is not None and self.error.status != 0
        try:
            return client.state(self.version).state == "AVAILABLE"
        except LoadFailed:
            return True


STABLE: Final[Mapping[str, Any]] = {"label": "stable"}
CANARY: Final[Mapping[str, Any]] = {"label": "canary"}


@dataclass
class Watch:
    """All that is known of one server, or of all together; and why the new version failed last."""

    accuracy: Paired = field(default_factory=Paired)
    errors: Paired = field(default_factory=Paired)
    latency: Paired = field(default_factory=Paired)
    tail: Paired = field(default_factory=Paired)
    reason: str = ""


@dataclass(frozen=True)
class Point:
    """The difference of accuracy after so many pairs, and its band."""

    seconds: float
    pairs: int
    difference: float
    lower: float
    upper: float


@dataclass
class Evidence:
    """All that a soak has come to, in as many attempts as there were.

    Attributes:
        turns: pairs that were asked for, also those that nobody answered.
        left: images that were not asked yet.
        seconds: they took so long.
        shown: whether, at some time, it was shown that the version is not worse by the margin.
        total: the pairs of all servers.
        servers: the pairs of each.
        path: the difference of accuracy over time.
    """

    turns: int = 0
    left: int = 0
    seconds: float = 0.0
    shown: bool = False
    total: Watch = field(default_factory=Watch)
    servers: dict[str, Watch] = field(default_factory=dict)
    path: list[Point] = field(default_factory=list)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evidence:
        """Evidence from its plain values.

        Raises:
            KeyError, TypeError, AttributeError: it is something else.
        """

        def watch(kept: Mapping[str, Any]) -> Watch:
            pairs = {name: Paired(**kept[name]) for name in kept.keys() - {"reason"}}
            return Watch(reason=kept["reason"], **pairs)

        servers = {address: watch(kept) for address, kept in value["servers"].items()}
        path = [Point(**point) for point in value["path"]]
        return cls(**{**value, "total": watch(value["total"]), "servers": servers, "path": path})


class Unwell(ServingError):
    """A server says nothing of the version; `over` if asking it again would not change that."""

    def __init__(self, headline: str, *, hint: str, over: bool) -> None:
        super().__init__(headline, hint=hint)
        self.over = over


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
    numbers: tuple[int | None, int | None] = (None, None),
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
        old: how the one that it is measured by is asked for.
        numbers: of the new and the old version.
        evidence: of the attempts before. It is gone on with to the end of a soak that was cut
            short, or for another one.
        keep: called with all evidence so far, now and then and at the end, however that comes.
        check: raises when the versions are no longer what they were; called before every pair.
        sleep: waits so many seconds.

    Raises:
        Unwell: a server fails for the old version too, or cannot be reached: no verdict.
        ServingError: there is no server, or `check` says so: no verdict either.
    """
    if not servers:
        raise ServingError("there is no server to ask", hint="--set serving.server_url=URL")
    seen = evidence or Evidence()
    trial = _Trial(servers, rules, (new, numbers[0]), (old, numbers[1]), seen)
    order = np.random.default_rng(0).permutation(len(features))
    turns = max(FEWEST * len(servers), round(rules.seconds * rules.rate * len(servers)))
    pace, every = 1 / (rules.rate * len(servers)), max(turns // _POINTS, 1)
    started, first, earlier = time.monotonic(), seen.turns, seen.seconds
    try:
        for turn in range(first, (first // turns + 1) * turns):
            began = time.monotonic()
            if turn - first >= FEWEST and began - started > _LATE * rules.seconds:
                break
            check()
            address, row = list(servers)[turn % len(servers)], order[turn % len(order)]
            # Seen again, an image tells of errors and latency only: the answer is the same.
            label = int(labels[row]) if turn < len(order) else None
            image = features[row][np.newaxis]
            seen.turns, seen.left = turn + 1, max(len(order) - turn - 1, 0)
            first_new = turn // len(servers) % 2 == 0
            trial.ask(address, servers[address], image, label, first_new=first_new)
            seen.seconds = round(earlier + time.monotonic() - started, 1)
            failed = trial.failure(address)
            if failed or turn % every == every - 1:
                accuracy = seen.total.accuracy
                band = accuracy.band(trial.level)
                seen.path.append(Point(seen.seconds, accuracy.pairs, accuracy.mean, *band))
                keep(seen)
            if failed:
                return Soaked(Verdict.FAIL, failed, seen.total, seen.path, rules.margin)
            sleep(max(0.0, pace - (time.monotonic() - began)))
        return trial.end()
    finally:
        keep(seen)


@dataclass
class _Asked:
    """What this attempt has seen of one server; `watch` is what all have."""

    new: Side
    old: Side
    watch: Watch
    pairs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    silent: int = 0  # pairs in a row that said nothing of the version
    broken: int = 0  # pairs in a row in which the old one alone failed, by itself


class _Trial:
    """The pairs of a soak."""

    def __init__(
        self,
        servers: Mapping[str, Client],
        rules: Rules,
        new: tuple[Mapping[str, Any], int | None],
        old: tuple[Mapping[str, Any], int | None],
        seen: Evidence,
    ) -> None:
        self.rules, self.seen = rules, seen
        self.level = LEVEL / 3 / len(servers)
        self._on = {
            address: _Asked(
                Side(_name(new[0]), *new),
                Side(_name(old[0]), *old),
                seen.servers.setdefault(address, Watch()),
            )
            for address in servers
        }

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
        on = self._on[address]
        new, old, before = on.new, on.old, on.old.milliseconds[-500:]
        sides = (new, old) if first_new else (old, new)
        answers = {side.name: side.ask(client, image) for side in sides}
        ours, theirs = answers[new.name], answers[old.name]
        error = old.error or new.error
        lost = theirs is not None and new.owns_error(client)
        won = ours is not None and old.owns_error(client)
        on.pairs += 1
        on.broken = on.broken + 1 if won else 0
        on.silent = on.silent + 1 if error and not lost else 0
        if error and lost:
            on.watch.reason = error.first_line[:200]
        elif error:
            name = old.name if old.error else new.name
            on.faults[f"{name}: {error.first_line[:200]}"] += 1
        for watch in (on.watch, self.seen.total):
            watch.errors.add(won - lost)
            if error:
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
        self.seen.shown |= self.seen.total.accuracy.is_above(-self.rules.margin, LEVEL)

    def failure(self, address: str) -> str:
        """What is shown against the version at a server; empty if nothing is.

        Raises:
            Unwell: the server is.
        """
        on = self._on[address]
        watch, new, old = on.watch, on.new, on.old
        if on.silent == FEWEST:
            self._require_well(address)
        if watch.errors.is_worse(self.level) and -watch.errors.mean > self.rules.error_margin:
            return (
                f"{new.name} failed {watch.errors.worse} of {watch.errors.pairs} requests at "
                f"{address}, {old.name} {watch.errors.better}: {watch.reason}"
            )
        if watch.accuracy.is_worse(self.level) and -watch.accuracy.mean > self.rules.margin:
            worse = f"{new.name} knows fewer images than {old.name} at {address}"
            return f"{worse}: {self._accuracy(watch)}"
        median, tail = watch.latency, watch.tail
        if median.is_worse(self.level / 2) or (
            tail.is_worse(self.level / 2) and -tail.mean > _TAIL_MARGIN
        ):
            times = " against ".join(
                f"{np.percentile(side.milliseconds or [0], 50):.1f} ms (p95 "
                f"{np.percentile(side.milliseconds or [0], _TAIL):.1f} ms)"
                for side in (new, old)
            )
            return (
                f"{new.name} is slower than {old.name} at {address}: {times} over {median.pairs} "
                f"pairs, margin {self.rules.latency_margin:.0%}"
            )
        return ""

    def end(self) -> Soaked:
        """The verdict when time is up.

        Raises:
            Unwell: a server is.
        """
        for address in self._on:
            self._require_well(address, over=True)
        total = self.seen.total
        sentence = f"{self._accuracy(total)}; no more errors, not slower"
        verdict = Verdict.PASS
        if not self.seen.shown:
            verdict = Verdict.INCONCLUSIVE
            sentence = f"not shown to be as good: {self._accuracy(total)}"
        return Soaked(verdict, sentence, total, self.seen.path, self.rules.margin)

    def _accuracy(self, watch: Watch) -> str:
        lower, upper = watch.accuracy.band(LEVEL if watch is self.seen.total else self.level)
        return (
            f"{100 * watch.accuracy.mean:+.2f} points of accuracy over {watch.accuracy.pairs} "
            f"images, between {100 * lower:+.2f} and {100 * upper:+.2f}, margin "
            f"{100 * self.rules.margin:g}"
        )

    def _require_well(self, address: str, *, over: bool = False) -> None:
        on = self._on[address]
        failed = on.faults.total()
        if failed > _UNWELL * on.pairs or on.silent == FEWEST:
            raise Unwell(
                f"{address} failed {failed} of {on.pairs} probes of "
                f"{on.faults.most_common(1)[0][0]}",
                hint="nothing is decided; see to the server",
                over=over or on.broken >= FEWEST,
            )


def _name(address: Mapping[str, Any]) -> str:
    return " ".join(f"v{value}" if key == "version" else value for key, value in address.items())
