"""Prometheus' queries answered over samples, as far as the rendered rules use the language.

`promql_parser` reads them; here is what the parts mean (https://prometheus.io/docs/prometheus).
"""

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import promql_parser as ast

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Samples = Mapping[tuple[str, Labels], list[tuple[float, float]]]
"""Of each series, by name and labels: time in seconds, ascending, and value."""

_STALE = 300.0
_NUMBERS: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
}
_TESTS = {">": operator.gt, "<": operator.lt, "==": operator.eq, "!=": operator.ne}


def labels(**values: str) -> Labels:
    return frozenset(values.items())


def fires(expression: str, samples: Samples, now: float) -> bool:
    """True if an alert with this expression is pending or firing then."""
    return bool(_vector(ast.parse(expression), samples, now))


def _vector(node: Any, samples: Samples, now: float) -> Any:
    """A vector; a number where the query has one, a text likewise."""
    match node:
        case ast.ParenExpr():
            return _vector(node.expr, samples, now)
        case ast.NumberLiteral() | ast.StringLiteral():
            return node.val
        case ast.VectorSelector():
            at = now - (node.offset.total_seconds() if node.offset else 0)
            return {of: points[-1][1] for of, points in _series(node, samples, at - _STALE, at)}
        case ast.AggregateExpr():
            return _aggregate(node, samples, now)
        case ast.Call():
            return _call(node, samples, now)
        case ast.BinaryExpr():
            return _binary(node, samples, now)
    raise NotImplementedError(node)


def _series(
    selector: Any, samples: Samples, since: float, until: float
) -> Iterable[tuple[Labels, list[tuple[float, float]]]]:
    tests = {
        "MatchOp.Equal": lambda value, wanted: value == wanted,
        "MatchOp.NotEqual": lambda value, wanted: value != wanted,
        "MatchOp.Re": lambda value, wanted: re.fullmatch(wanted, value) is not None,
        "MatchOp.NotRe": lambda value, wanted: re.fullmatch(wanted, value) is None,
    }
    for (name, of), points in samples.items():
        within = [(t, v) for t, v in points if since < t <= until]
        chosen = all(
            tests[str(m.op)](dict(of).get(m.name, ""), m.value) for m in selector.matchers.matchers
        )
        if name == selector.name and within and chosen:
            yield of, within


def _aggregate(node: Any, samples: Samples, now: float) -> Vector:
    by = set(node.modifier.labels) if node.modifier else set()
    groups: dict[Labels, list[float]] = defaultdict(list)
    for of, value in _vector(node.expr, samples, now).items():
        key = frozenset((n, v) for n, v in of if n in by)
        if str(node.op) == "count_values":
            key |= {(node.param.val, f"{value:g}")}
        groups[key].append(value)
    made = sum if str(node.op) == "sum" else len
    return {key: float(made(values)) for key, values in groups.items()}


def _call(node: Any, samples: Samples, now: float) -> Vector:
    if node.func.name == "rate":
        (window,) = node.args
        seconds = window.range.total_seconds()
        found = _series(window.vector_selector, samples, now - seconds, now)
        return {of: (p[-1][1] - p[0][1]) / seconds for of, p in found if len(p) > 1}
    arguments = [_vector(argument, samples, now) for argument in node.args]
    match node.func.name, arguments:
        case "vector", [number]:
            return {labels(): number}
        case "absent", [vector]:
            return {} if vector else {labels(): 1.0}
        case "label_replace", [vector, to, replacement, source, pattern]:
            made = {}
            for of, value in vector.items():
                match = re.fullmatch(pattern, dict(of).get(source, ""))
                new = {to: match.expand(replacement.replace("$", "\\"))} if match else {}
                made[frozenset({**dict(of), **new}.items())] = value
            return made
        case "histogram_quantile", [quantile, buckets]:
            return _quantile(quantile, buckets)
    raise NotImplementedError(node.func.name)


def _quantile(quantile: float, buckets: Vector) -> Vector:
    """Linear within the bucket, as Prometheus has it; of one histogram."""
    bounds = sorted((float(dict(of)["le"]), count) for of, count in buckets.items())
    if not bounds or not bounds[-1][1]:
        return {}
    rank, below, before = quantile * bounds[-1][1], 0.0, 0.0
    for bound, count in bounds:
        if count >= rank:
            whole = before if math.isinf(bound) else bound
            return {labels(): before + (whole - before) * (rank - below) / (count - below)}
        below, before = count, bound
    raise AssertionError("the last bucket holds all")


def _binary(node: Any, samples: Samples, now: float) -> Vector:
    left, right = (_vector(side, samples, now) for side in (node.lhs, node.rhs))
    matching = node.modifier.matching if node.modifier else None

    def key(of: Labels) -> Labels:
        return of if matching is None else frozenset(p for p in of if p[0] in matching.labels)

    op = str(node.op)
    if op in ("and", "or"):
        there = {key(of) for of in (right if op == "and" else left)}
        if op == "and":
            return {of: value for of, value in left.items() if key(of) in there}
        return left | {of: value for of, value in right.items() if key(of) not in there}
    assert isinstance(left, dict), "a number on the left side"
    others = right if isinstance(right, dict) else dict.fromkeys(left, right)
    pairs = {of: (value, others[of]) for of, value in left.items() if of in others}
    if op in _TESTS:
        return {of: a for of, (a, b) in pairs.items() if _TESTS[op](a, b)}
    return {of: _NUMBERS[op](a, b) for of, (a, b) in pairs.items()}
