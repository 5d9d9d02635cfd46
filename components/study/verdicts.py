"""From comparisons to one verdict per claim, by one rule for all of them.

A claim is supported when the network with batch normalisation is better than the plain one and than
every control; refuted when it is worse, the same within the margin, or when a control does as well
without it. Holm holds the error over the claims at `ALPHA`, once for verdicts that say "a
difference" and once for those that say "the same" (by two one-sided tests).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from bnpipe.components.study.plan import MIN_PAIRS
from bnpipe.components.study.statistics import FloatArray, Paired, holm

ALPHA = 0.05
"""The chance, at most, that any of the six claims gets a verdict of difference without one."""
Outcome = Literal["supported", "refuted", "not decided here"]
Basis = Literal["difference", "sameness"]
_BASES: tuple[Basis, ...] = get_args(Basis)


@dataclass(frozen=True)
class Check:
    """One comparison that takes part in a verdict.

    Attributes:
        name: what is compared with what.
        pair: None where one of the two was not trained.
        wants: `better`, or `no worse` than by the margin.
        matched: what a control says that is not as wanted.
        premise: what must be so (the first of them better) for a control to say anything.
    """

    name: str
    pair: Paired | None
    wants: Literal["better", "no worse"] = "better"
    matched: str = ""
    premise: Paired | None = None

    def p_wanted(self) -> FloatArray:
        """P-value against "it is not as wanted"; 1 where it was not trained."""
        if self.pair is None:
            return np.ones(())
        wanted = self.pair.p_better
        if self.wants == "no worse":
            wanted = np.minimum(wanted, self.pair.p_no_worse)
        return self._under_premise(wanted)

    def p_matched(self) -> FloatArray:
        """P-value against "it is as wanted"; 1 where it was not trained."""
        if self.pair is None:
            return np.ones(())
        matched = self.pair.p_worse
        if self.wants == "better":
            matched = np.minimum(matched, self.pair.p_same)
        return self._under_premise(matched)

    def _under_premise(self, p: FloatArray) -> FloatArray:
        return p if self.premise is None else np.maximum(p, self.premise.p_better)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What the article says, what decides it, and what is shown beside.

    Attributes:
        letter: a to f.
        title: the claim.
        measured: what decides it, in words.
        gate: the comparison with the plain network.
        controls: the comparisons that could explain a gain otherwise.
        supported, worse, same: the verdict's beginning when that is how it comes out.
        beside: further comparisons, which decide nothing.
        caveat: what limits any verdict.
    """

    letter: str
    title: str
    measured: str
    gate: Check
    controls: tuple[Check, ...]
    supported: str
    worse: str
    same: str
    beside: tuple[tuple[str, Paired | None], ...]
    caveat: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """All that decide."""
        return self.gate, *self.controls

    def options(self) -> Iterator[tuple[Outcome, Basis, str, FloatArray]]:
        """Every verdict that it can get: outcome, basis, beginning, p-value float64[...]."""
        pair = self.gate.pair
        if pair is None:
            return
        if self.gate.wants == "no worse":
            yield "supported", "sameness", self.supported, pair.p_no_worse
            yield "refuted", "difference", self.worse, pair.p_worse
            return
        wanted = [pair.p_better, *(control.p_wanted() for control in self.controls)]
        yield "supported", "difference", self.supported, reduce(np.maximum, wanted)
        yield "refuted", "difference", self.worse, pair.p_worse
        yield "refuted", "sameness", self.same, pair.p_same
        for control in self.controls:  # any of them is enough, so each has its part of the level
            p = np.maximum(pair.p_better, np.minimum(control.p_matched() * len(self.controls), 1.0))
            yield "refuted", "difference", control.matched, p

    def p(self, basis: Basis) -> FloatArray:
        """The smallest p-value of any verdict on that basis, float64[...]; 1 without data."""
        found = [p for _, of, _, p in self.options() if of == basis]
        return reduce(np.minimum, found, np.ones(()))


@dataclass(frozen=True)
class Finding:
    """A claim's verdict.

    Attributes:
        claim: of which it is.
        verdict: supported, refuted or not decided here.
        basis: what the verdict rests on; None if not decided.
        sentence: the verdict in words.
        p: of the verdict, adjusted by Holm; of the smaller one where none was reached.
    """

    claim: Claim
    verdict: Outcome
    basis: Basis | None
    sentence: str
    p: float

    @property
    def effect_text(self) -> str:
        """The deciding effect, as a person reads it."""
        return text(self.claim.gate.pair)

    def rows(self) -> Iterator[tuple[str, Paired, bool]]:
        """All comparisons: name, numbers, whether it decides."""
        for check in self.claim.checks:
            if check.pair is not None:
                yield check.name, check.pair, True
            if check.premise is not None:
                yield f"{check.name}: premise", check.premise, True
        yield from ((name, pair, False) for name, pair in self.claim.beside if pair is not None)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        of_claim = {name: getattr(self.claim, name) for name in ("letter", "title", "measured")}
        own = {"verdict": self.verdict, "basis": self.basis, "sentence": self.sentence, "p": self.p}
        rows = [
            {"name": name, **pair.effect()._asdict(), "pairs": pair.pairs, "decides": decides}
            for name, pair, decides in self.rows()
        ]
        return {**of_claim, **own, "effect": self.effect_text, "rows": rows}


def differences(claims: Sequence[Claim]) -> npt.NDArray[np.bool_]:
    """Whether each claim's verdict is one of difference, bool[claims, ...]."""
    decided = {basis: _adjusted(claims, basis)[0] <= ALPHA for basis in _BASES}
    return np.asarray(decided["difference"] & ~decided["sameness"])


def _adjusted(claims: Sequence[Claim], basis: Basis) -> tuple[FloatArray, FloatArray]:
    return holm(np.stack(np.broadcast_arrays(*(claim.p(basis) for claim in claims))))


def judge(claims: Sequence[Claim]) -> list[Finding]:
    """The verdict of every claim.

    Where a difference is certain and certainly less than its margin, the margin decides.
    """
    found = {basis: _adjusted(claims, basis) for basis in reversed(_BASES)}
    findings = []
    for i, claim in enumerate(claims):
        basis = next((b for b, (adjusted, _) in found.items() if adjusted[i] <= ALPHA), None)
        level = {b: ALPHA / factors[i] for b, (_, factors) in found.items()}
        outcome: Outcome = "not decided here"
        lead = _undecided(claim, level["difference"])
        if basis is not None:
            options = [(float(p), o, text) for o, b, text, p in claim.options() if b == basis]
            _, outcome, lead = min(options, key=lambda option: option[0])
        found_p = [float(adjusted[i]) for b, (adjusted, _) in found.items() if basis in (b, None)]
        evidence = "; ".join(
            f"{c.name}: {text(c.pair)}" for c in claim.checks if c.pair is not None
        )
        sentence = f"{lead} ({evidence})" if evidence else lead
        caveat = f" {claim.caveat}." if claim.caveat else ""
        findings.append(Finding(claim, outcome, basis, f"{sentence}.{caveat}", min(found_p)))
    return findings


def _undecided(claim: Claim, level: float) -> str:
    """Why there is no verdict."""
    for check in claim.checks:
        if check.pair is None:
            return f"{check.name} was not trained"
        if check.pair.pairs < MIN_PAIRS:
            return f"{check.name} has {check.pair.pairs} pairs, and {MIN_PAIRS} is the least"
        if check.premise is not None and check.premise.p_better > level:
            return f"{check.name}: its premise is not shown ({text(check.premise)})"
        if min(check.p_wanted(), check.p_matched()) > level:
            return f"{check.name}: neither a difference nor sameness is certain"
    return "no control tells the explanations apart"


def text(pair: Paired | None) -> str:
    """An effect with its interval, as a person reads it."""
    if pair is None:
        return "not trained"
    value, low, high = pair.effect()
    if math.isnan(value):
        return "too few got there"
    if pair.scale == "points":
        value, low, high = (round(100 * v, 2) + 0.0 for v in (value, low, high))  # no -0.00
        return f"{value:+.2f} points [{low:+.2f}, {high:+.2f}]"
    bounds = {"at least ": pair.y, "at most ": pair.x} if pair.scale == "steps" else {}
    least = next((word for word, of in bounds.items() if np.isinf(of).mean() > 0.5), "")
    ends = ["open" if end in (0.0, math.inf) else f"{end:.3g}" for end in (low, high)]
    interval = "few pairs" if math.isnan(low) else ", ".join(ends)
    return f"{least}{value:.3g} times [{interval}]"
