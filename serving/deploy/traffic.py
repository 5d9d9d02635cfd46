"""Real requests by label, from the log of nginx, and tests that may be looked at any time.

A request's label is drawn by lot. If the canary is no worse, a request that goes wrong is therefore
the canary's with a probability of at most its share, whatever else changes over the day; betting
against that (`client.paired`) is all that is done here. Gone wrong are failed requests, and slow
ones: above the median or the 95th percentile of the answers of `stable` just before, where times of
the canary count without their margin. With `shadow` both labels get every request: of the pairs in
which one label alone went wrong, the canary's share is a half.

A refusal is the client's own fault and counts for nobody if `stable` refuses too. Of the canary's
that is known, for `stable` was asked again; those of `stable` are taken for such.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np

from bnpipe.data.plain_file import open_plain
from bnpipe.serving.client.paired import Paired
from bnpipe.serving.client.soak import FEWEST, LEVEL, Rules, Verdict
from bnpipe.serving.errors import ServingError

LOG: Final = "requests.jsonl"
"""Its name in the folder; rotated, it is called so and more."""
_SHADOW: Final = "shadow"
# What a server answers that has no canary, by status and length: nginx sees no more of it.
_ABSENT = "400 " + str(len('{\n    "error": "Unrecognized servable version label: canary"\n}'))
_QUANTILES = (50, 95)
_QUICK_MS = 5.0  # nobody is slower than another below this: nginx counts whole milliseconds
_RECENT, _EVERY = 500, 50  # answers that the quantiles are of, and after which they are new


class Fate(Enum):
    """What becomes of a request that is not answered: ABSENT if there is no canary."""

    FAILED, REFUSED, ABSENT = range(3)


@dataclass
class Label:
    """The requests of a label.

    Attributes:
        milliseconds: of the answers, until their first byte.
        fates: how many were not answered, by what became of them.
    """

    milliseconds: list[float] = field(default_factory=list)
    fates: Counter[Fate] = field(default_factory=Counter)

    def add(self, outcome: float | Fate | None) -> None:
        """One more request: the time of its answer, or what became of it; None for none."""
        if isinstance(outcome, float):
            self.milliseconds.append(outcome)
        elif outcome is not None:
            self.fates[outcome] += 1

    @property
    def failures(self) -> Paired:
        """How many failed, as `better`, and how many were answered, as `same`."""
        return Paired(better=self.fates[Fate.FAILED], same=len(self.milliseconds))

    def percentile(self, q: float) -> float | None:
        """A percentile of the times; None without one."""
        return float(np.percentile(self.milliseconds, q)) if self.milliseconds else None

    def to_json(self) -> dict[str, Any]:
        """As plain values; either end of the interval is wrong with a probability of LEVEL."""
        failures = self.failures
        lower, upper = failures.band(LEVEL) if failures.pairs else (0.0, 1.0)
        return {
            "requests": failures.pairs,
            "failed": failures.better,
            "failed_share": failures.mean,
            "failed_between": [max(lower, 0.0), upper],
            "refused": self.fates[Fate.REFUSED],
            "absent": self.fates[Fate.ABSENT],
            "p50_ms": self.percentile(50),
            "p99_ms": self.percentile(99),
        }


@dataclass
class Traffic:
    """The requests while the share was one and the same.

    Attributes:
        share: of the canary, or `shadow`.
        rules: margins of errors and latency within which the canary may be worse.
        stable: the requests of that label.
        canary: likewise.
    """

    share: float | str | None
    rules: Rules
    stable: Label = field(default_factory=Label)
    canary: Label = field(default_factory=Label)
    _errors: Paired = field(default_factory=Paired)
    _slow: tuple[Paired, ...] = field(default_factory=lambda: tuple(Paired() for _ in _QUANTILES))
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _limits: tuple[float, ...] = ()
    _copies: dict[str, float | Fate] = field(default_factory=dict)

    def add(self, label: str, request: str, outcome: float | Fate) -> None:
        """Take in a line of the log."""
        if self.share != _SHADOW:
            self._count(*((None, outcome) if label == "stable" else (outcome, None)))
        elif label == "stable":  # logged after its copy
            canary = self._copies.pop(request, Fate.ABSENT)
            self._count(Fate.REFUSED if outcome is Fate.REFUSED else canary, outcome)
        else:
            self._copies[request] = outcome

    def _count(self, canary: float | Fate | None, stable: float | Fate | None) -> None:
        # From the first answer of the canary's on, without that one, which no lot has drawn.
        compared = self.canary.failures.pairs > 0 and canary is not Fate.ABSENT
        self.canary.add(canary)
        self.stable.add(stable)
        if compared and (canary is Fate.FAILED) != (stable is Fate.FAILED):
            self._errors.add(canary is Fate.FAILED)
        elif compared:
            for events, limit in zip(self._slow, self._limits, strict=False):
                late = (
                    isinstance(canary, float) and canary > (1 + self.rules.latency_margin) * limit
                )
                if late != (isinstance(stable, float) and stable > limit):
                    events.add(late)
        if isinstance(stable, float):
            self._recent.append(stable)
            answers = len(self.stable.milliseconds)
            if answers == FEWEST or answers % _EVERY == 0:
                usual = np.percentile(self._recent, _QUANTILES)
                self._limits = tuple(max(float(limit), _QUICK_MS) for limit in usual)

    def verdict(self) -> tuple[Verdict, str]:
        """What is shown against the canary, in one line."""
        share = self.share if isinstance(self.share, float) else 0.5
        ours, theirs = self.canary.failures, self.stable.failures
        excess = ours.mean - theirs.mean
        if self._errors.is_above(share, LEVEL / 3) and excess > self.rules.error_margin:
            counts = [f"{label.better} of {label.pairs} requests" for label in (ours, theirs)]
            return Verdict.FAIL, f"canary failed {counts[0]}, stable {counts[1]}"
        if any(events.is_above(share, LEVEL / 3) for events in self._slow):
            times = [
                f"{label.percentile(50):.0f} ms (p95 {label.percentile(95):.0f} ms)"
                for label in (self.canary, self.stable)
            ]
            margin = f"margin {self.rules.latency_margin:.0%}"
            return Verdict.FAIL, f"canary is slower: {times[0]} against {times[1]}, {margin}"
        return Verdict.INCONCLUSIVE, f"nothing is shown against canary in {ours.pairs} requests"


def read(folder: Path, rules: Rules, since: float = 0.0) -> tuple[Traffic, int]:
    """The requests that nginx logged since the share is what it is, and how many lines are none.

    Args:
        folder: with the log, and what rotation left of it.
        rules: see `Traffic`.
        since: seconds since 1970 before which nothing counts.

    Raises:
        ServingError: there is no log, or it cannot be read.
    """
    traffic, unread = Traffic(None, rules), 0
    for text in _lines(folder, since):
        try:
            line = json.loads(text)
            at, label, share, request = (line[key] for key in ("time", "label", "share", "id"))
            if at < since or label not in ("stable", "canary"):
                continue
            outcome = _outcome(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            unread += 1
            continue
        if share != traffic.share:
            traffic = Traffic(share, rules)
        traffic.add(label, request, outcome)
    return traffic, unread


def _lines(folder: Path, since: float) -> Iterator[bytes]:
    """The lines of all files, those written last at the end."""
    try:
        files = sorted((path.stat().st_mtime, path) for path in folder.glob(f"{LOG}*"))
        if not files:
            raise ServingError(
                f"there is no {LOG} in {folder}",
                hint="deploy.traffic_log names the folder; bnpipe deploy render writes the nginx",
            )
        for written, path in files:
            if written >= since:
                with open_plain(path) as file, suppress(EOFError):
                    yield from gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
    except (OSError, zlib.error) as error:
        raise ServingError(f"cannot read the log in {folder}: {error}") from error


def _outcome(line: dict[str, Any]) -> float | Fate:
    """The milliseconds of an answer, or what became of the request."""
    first, *again = line["upstream_status"].split(" : ")
    code = first.rpartition(", ")[2]  # of two, the first connection was closed already
    seconds = line["upstream_seconds"].split(" : ")[0].rpartition(", ")[2]
    if code.startswith("2"):
        return 1e3 * float(seconds)
    if code and line["label"] == "canary":
        answer = line["canary"].rpartition(", ")[2]
        code = answer.partition(" ")[0] or code
        if code == "404" or answer == _ABSENT:
            return Fate.ABSENT
        if not (code.startswith("4") and again and again[0].startswith("4")):
            return Fate.FAILED
    return Fate.REFUSED if not code or code.startswith("4") else Fate.FAILED
