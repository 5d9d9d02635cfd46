"""Real requests by label, from the log of nginx, and tests that may be looked at any time.

A request's label is drawn by lot. If the canary is no worse, a request that goes wrong is therefore
the canary's with a probability of at most its share, whatever else changes over the day; betting
against that (`client.paired`) is all that is done here. Gone wrong are failed requests, and slow
ones: above the median or the 95th percentile of the answers of `stable` just before, where times of
the canary count without their margin. With `shadow` both labels get every request: of the pairs in
which one label alone went wrong, the canary's share is a half.

A refusal is the client's own fault and counts for nobody if `stable` refuses too. Of the canary's
that is known, for `stable` was asked again; those of `stable` are taken for such, but in shadow,
where the copy tells. What may go well a moment later (409, 429) is no refusal.
"""

from __future__ import annotations

import gzip
import json
import re
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
"""Its name in the folder; rotated, it is called so and more, a number or a date."""
_OURS = re.compile(re.escape(LOG) + r"([.-]\d+)*(\.gz)?")
_SHADOW: Final = "shadow"
# What a server answers that has no canary, by status and length: nginx sees no more of it.
_ABSENT = "400 " + str(len('{\n    "error": "Unrecognized servable version label: canary"\n}'))
_QUANTILES = (50, 95)
_QUICK_MS = 5  # nobody is slower than another below this: nginx counts whole milliseconds
_REFUSED = re.compile(r"4(?!08|09|25|29|99)\d\d$")  # those may go well a moment later
_RECENT, _EVERY = 500, 50  # answers that the quantiles are of, and after which they are new


class Fate(Enum):
    """What becomes of a request that is not answered: ABSENT if there is no canary."""

    FAILED, REFUSED, ABSENT = range(3)


@dataclass
class Label:
    """The requests of a label.

    Attributes:
        counts: how many answers took how many milliseconds until their first byte, and how many
            were not answered, by what became of them.
        failures: how many failed, as `better`, and how many were answered, as `same`.
    """

    counts: Counter[int | Fate] = field(default_factory=Counter)
    failures: Paired = field(default_factory=Paired)

    def add(self, outcome: int | Fate | None) -> None:
        """One more request: the time of its answer, or what became of it; None for none."""
        if outcome is not None:
            self.counts[outcome] += 1
        if isinstance(outcome, int) or outcome is Fate.FAILED:
            self.failures.add(outcome is Fate.FAILED)

    def percentile(self, q: float) -> float | None:
        """A percentile of the times as numpy has it; None without one."""
        if not self.failures.same:
            return None
        answers = sorted((t, n) for t, n in self.counts.items() if isinstance(t, int))
        times, counts = np.array(answers).T
        last = np.cumsum(counts) - 1
        ranks = np.stack((last - counts + 1, last), axis=1).ravel()
        return float(np.interp(q / 100 * last[-1], ranks, np.repeat(times, 2)))

    def to_json(self) -> dict[str, Any]:
        """As plain values; either end of the interval is wrong with a probability of LEVEL."""
        failures = self.failures
        lower, upper = failures.band(LEVEL) if failures.pairs else (0.0, 1.0)
        return {
            "requests": failures.pairs,
            "failed": failures.better,
            "failed_share": failures.mean,
            "failed_between": [max(lower, 0.0), upper],
            "refused": self.counts[Fate.REFUSED],
            "absent": self.counts[Fate.ABSENT],
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
    _compared: tuple[Label, Label] = field(default_factory=lambda: (Label(), Label()))
    _recent: deque[int] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _limits: tuple[float, ...] = ()
    _copies: dict[str, int | Fate] = field(default_factory=dict)

    def add(self, label: str, request: str, outcome: int | Fate) -> None:
        """Take in a line of the log."""
        if self.share != _SHADOW:
            self._count(*((None, outcome) if label == "stable" else (outcome, None)))
        elif label == "stable":  # logged after its copy
            canary = self._copies.pop(request, Fate.ABSENT)
            if isinstance(canary, int) or isinstance(outcome, int):  # so one alone refuses
                pair = canary, outcome
                canary, outcome = (Fate.FAILED if one is Fate.REFUSED else one for one in pair)
            self._count(canary, outcome)
        else:
            self._copies[request] = outcome

    def _count(self, canary: int | Fate | None, stable: int | Fate | None) -> None:
        # From the first answer of the canary's on, without that one, which no lot has drawn.
        compared = self.canary.failures.pairs > 0 and canary is not Fate.ABSENT
        labels = (self.canary, canary), (self.stable, stable)
        for (label, outcome), fair in zip(labels, self._compared, strict=True):
            label.add(outcome)
            fair.add(outcome if compared else None)
        if compared and (canary is Fate.FAILED) != (stable is Fate.FAILED):
            self._errors.add(canary is Fate.FAILED)
        elif compared:
            for events, limit in zip(self._slow, self._limits, strict=False):
                slowest = (1 + self.rules.latency_margin) * limit
                late = isinstance(canary, int) and canary > slowest
                if late != (isinstance(stable, int) and stable > limit):
                    events.add(late)
        if isinstance(stable, int):
            self._recent.append(stable)
            answers = self.stable.failures.same
            if answers == FEWEST or answers % _EVERY == 0:
                usual = np.percentile(self._recent, _QUANTILES)
                self._limits = tuple(max(float(limit), _QUICK_MS) for limit in usual)

    def verdict(self) -> tuple[Verdict, str]:
        """What is shown against the canary, in one line."""
        share = self.share if isinstance(self.share, float) else 0.5
        ours, theirs = (label.failures for label in self._compared)
        excess = ours.mean - theirs.mean
        if self._errors.is_above(share, LEVEL / 3) and excess > self.rules.error_margin:
            counts = [f"{label.better} of {label.pairs} requests" for label in (ours, theirs)]
            return Verdict.FAIL, f"canary failed {counts[0]} after its first, stable {counts[1]}"
        if any(events.is_above(share, LEVEL / 3) for events in self._slow):
            times = [
                f"{label.percentile(50):.0f} ms (p95 {label.percentile(95):.0f} ms)"
                for label in (self.canary, self.stable)
            ]
            margin = f"margin {self.rules.latency_margin:.0%}"
            return Verdict.FAIL, f"canary is slower: {times[0]} against {times[1]}, {margin}"
        asked = self.canary.failures.pairs
        return Verdict.INCONCLUSIVE, f"nothing is shown against canary in {asked} requests"


def read(folder: Path, rules: Rules, since: float | None = 0.0) -> tuple[Traffic, int]:
    """The requests that nginx logged since the share is what it is, and how many lines are none.

    Args:
        folder: with the log, and what rotation left of it.
        rules: see `Traffic`.
        since: seconds since 1970 before which nothing counts; None for the newest file only.

    Raises:
        ServingError: there is no log, or it cannot be read.
    """
    traffic, unread = Traffic(None, rules), 0
    for text in _lines(folder, since):
        try:
            line = json.loads(text.decode(errors="replace"))  # a URI is of any bytes
            at, label, share, request = (line[key] for key in ("time", "label", "share", "id"))
            if at < (since or 0.0) or label not in ("stable", "canary"):
                continue
            outcome = _outcome(line)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            unread += 1
            continue
        if share != traffic.share:
            traffic = Traffic(share, rules)
        traffic.add(label, request, outcome)
    return traffic, unread


def _lines(folder: Path, since: float | None) -> Iterator[bytes]:
    """The lines of all files, those written last at the end."""
    try:
        # Of two written at the same time the larger number is the older one.
        ours = sorted((p for p in folder.glob(f"{LOG}*") if _OURS.fullmatch(p.name)), reverse=True)
        # While gzip is at work both are there.
        whole = (p for p in ours if p.suffix != ".gz" or p.with_suffix("") not in ours)
        files = sorted(((p.stat().st_mtime, p) for p in whole), key=lambda file: file[0])
        if not files:
            raise ServingError(
                f"there is no {LOG} in {folder}",
                hint="deploy.traffic_log names the folder; bnpipe deploy render writes the nginx",
            )
        for written, path in files[-1:] if since is None else files:
            if written >= (since or 0.0):
                with open_plain(path) as file, suppress(EOFError):
                    yield from gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
    except (OSError, zlib.error) as error:
        raise ServingError(f"cannot read the log in {folder}: {error}") from error


def _outcome(line: dict[str, Any]) -> int | Fate:
    """The milliseconds of an answer, or what became of the request."""
    first, *again = line["upstream_status"].split(" : ")
    code = first.rpartition(", ")[2]  # of two, the first connection was closed already
    seconds = line["upstream_seconds"].split(" : ")[0].rpartition(", ")[2]
    if code.startswith("2"):
        return round(1e3 * float(seconds))
    if code and line["label"] == "canary":
        answer = line["canary"].rpartition(", ")[2]
        code = answer.partition(" ")[0] or code
        if code == "404" or answer == _ABSENT:
            return Fate.ABSENT
        if line["share"] != _SHADOW and not (again and _REFUSED.search(again[0])):
            return Fate.FAILED
    return Fate.REFUSED if not code or _REFUSED.search(code) else Fate.FAILED
