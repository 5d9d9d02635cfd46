"""Soaking a canary: the same images go to the labels `stable` and `canary`, and are compared.

The server's own metrics carry no version, so we ask from outside, as a client would. A canary is
withdrawn when it fails requests that the stable version answers, when it is slower beyond reason,
or when it calls too many images something else. A server that fails for both labels says nothing
about the canary: that is a fault to be tried again, and no verdict.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from bnpipe.serving.client.base import Client, ServerError
from bnpipe.serving.errors import ServingError

LABELS: Final = ("stable", "canary")
FEWEST: Final = 20
"""Pairs of answers without which nothing is decided."""
_UNWELL: Final = 0.25
"""A server whose stable version fails so large a share of the probes says nothing of the canary."""
_LATE: Final = 2.0
"""Where answers are slow, a soak takes so many times its seconds at most."""
_QUICK_MS = 5.0  # latencies below are as good as none: their ratio is the machine's noise


@dataclass(frozen=True)
class Limits:
    """The bounds that a canary must keep to.

    Attributes:
        seconds: how long it is probed.
        rate: images a second, each sent to both labels.
        min_agreement: share of images that both must call the same.
        max_error_difference: how much larger its share of failed requests may be.
        max_latency_ratio: how many times slower its 95th percentile may be.
    """

    seconds: float = 600.0
    rate: float = 5.0
    min_agreement: float = 0.9
    max_error_difference: float = 0.01
    max_latency_ratio: float = 3.0


@dataclass
class Side:
    """The probes of one label, answered or failed.

    Attributes:
        milliseconds: of the answered requests.
        errors: failed requests, by reason.
    """

    milliseconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """The number of those that were sent."""
        return len(self.milliseconds) + self.errors.total()

    @property
    def error_share(self) -> float:
        """Share of failed requests."""
        return self.errors.total() / self.requests if self.requests else 0.0

    @property
    def p95(self) -> float:
        """95th percentile of the latencies, in milliseconds; NaN without any."""
        return float(np.percentile(self.milliseconds, 95)) if self.milliseconds else float("nan")


@dataclass(frozen=True)
class Soaked:
    """The end of a soak.

    Attributes:
        passed: whether the canary may be promoted.
        sentence: the verdict in one line.
        pairs: images that both labels answered.
        agreement: share of them that both called the same; NaN without any.
        stable: probes of the stable version.
        canary: probes of the canary.
    """

    passed: bool
    sentence: str
    pairs: int
    agreement: float
    stable: Side
    canary: Side


def soak(
    client: Client,
    features: npt.NDArray[np.float32],
    rules: Limits,
    *,
    still_canary: Callable[[], bool] = lambda: True,
    sleep: Callable[[float], None] = time.sleep,
) -> Soaked:
    """Probe both labels and compare.

    Args:
        client: of the running server; with one attempt per request, for retries hide failures.
        features: float32[N, D], sent one image at a time, in turn.
        rules: how long, and what the canary must keep to.
        still_canary: whether the label still names the version; asked before every pair.
        sleep: waits so many seconds.

    Raises:
        ServingError: the stable version fails too, or the label moved meanwhile: no verdict.
    """
    sides = {label: Side() for label in LABELS}
    agreed: list[bool] = []
    started = time.monotonic()
    silent = 0
    for turn in range(max(FEWEST, round(rules.seconds * rules.rate))):
        began = time.monotonic()
        late = turn >= FEWEST and began - started > _LATE * rules.seconds
        if late or silent == FEWEST:
            break
        if not still_canary():
            raise ServingError(
                "the canary was promoted or withdrawn during its soak", hint="bnpipe versions list"
            )
        image = features[turn % len(features)][np.newaxis]
        # In turn the first one: whoever comes second finds a warm cache.
        order = LABELS if turn % 2 else LABELS[::-1]
        answers = {label: _ask(client, image, label, sides[label]) for label in order}
        silent = silent + 1 if answers["stable"] is None else 0
        if None not in answers.values():
            agreed.append(answers["stable"] == answers["canary"])
        sleep(max(0.0, 1 / rules.rate - (time.monotonic() - began)))
    return _judged(sides["stable"], sides["canary"], agreed, rules)


def _ask(client: Client, image: npt.NDArray[np.float32], label: str, side: Side) -> int | None:
    began = time.perf_counter()
    try:
        answer = client.predict({"features": image}, label=label)
    except ServerError as error:
        side.errors[error.first_line[:200]] += 1
        return None
    side.milliseconds.append(1e3 * (time.perf_counter() - began))
    return int(np.asarray(answer.outputs["class_id"]).reshape(-1)[0])


def _judged(stable: Side, canary: Side, agreed: list[bool], rules: Limits) -> Soaked:
    agreement = float(np.mean(agreed)) if agreed else float("nan")

    def verdict(passed: bool, sentence: str) -> Soaked:
        return Soaked(passed, sentence, len(agreed), agreement, stable, canary)

    if stable.error_share > _UNWELL:
        ((why, _),) = stable.errors.most_common(1)
        raise ServingError(
            f"the server failed {stable.errors.total()} of {stable.requests} probes of the stable "
            f"version: {why}",
            hint="nothing is decided; see to the server",
        )
    more = canary.error_share - stable.error_share
    if more > rules.max_error_difference:
        ((why, _),) = canary.errors.most_common(1)
        return verdict(
            False,
            f"the canary failed {canary.errors.total()} of {canary.requests} requests, the stable "
            f"version {stable.errors.total()}: {why}",
        )
    if len(agreed) < FEWEST:
        why = next(iter(stable.errors + canary.errors), "no answers")
        raise ServingError(
            f"the server answered {len(agreed)} probes for both labels, expected at least "
            f"{FEWEST}: {why}",
            hint="nothing is decided; see to the server",
        )
    if agreement < rules.min_agreement:
        return verdict(
            False,
            f"the canary calls {len(agreed) - sum(agreed)} of {len(agreed)} images something else "
            f"than the stable version (agreement {agreement:.3f}, at least "
            f"{rules.min_agreement:g})",
        )
    limit = max(rules.max_latency_ratio * stable.p95, _QUICK_MS)
    if canary.p95 > limit:
        return verdict(
            False,
            f"the canary takes {canary.p95:.1f} ms (p95), the stable version {stable.p95:.1f} ms; "
            f"at most {limit:.1f} ms",
        )
    return verdict(
        True,
        f"{len(agreed)} probes: agreement {agreement:.3f}, no more errors, p95 {canary.p95:.1f} ms "
        f"against {stable.p95:.1f} ms",
    )
