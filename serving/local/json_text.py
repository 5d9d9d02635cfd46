"""Values as RapidJSON's pretty writer shows them, in answers and in errors."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from bnpipe.serving.local.status import StatusError, invalid

LARGEST_FLOAT = float(np.finfo(np.float32).max)
_LARGEST_UINT64 = 2**64 - 1
_SMALLEST_INT64 = -(2**63)


def format_error(value: Any, what: str) -> StatusError:
    """A value is not what was expected."""
    return invalid(f"JSON Value: {text(value)} {what}")


def text(value: Any) -> str:
    """A value as RapidJSON's pretty writer shows it: objects on several lines, arrays on one."""
    if isinstance(value, float):
        return decimal(value, single=not math.isfinite(value) or abs(value) <= LARGEST_FLOAT)
    return _pretty(value, 0)


def _pretty(value: Any, depth: int) -> str:
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = "    " * (depth + 1)
        members = [f"{inner}{quoted(k)}: {_pretty(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(members) + "\n" + "    " * depth + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_pretty(v, depth) for v in value) + "]"
    if isinstance(value, float):
        return repr(value).replace("e+", "e")
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def quoted(value: str) -> str:
    """A string literal; bytes that are no UTF-8 pass through as `surrogateescape` has them."""
    return json.dumps(value, ensure_ascii=False)


def decimal(value: float, *, single: bool = True) -> str:
    """A number as TF Serving writes it: six digits if they suffice, else all, never a bare integer.

    Args:
        value: the number.
        single: whether it is a float32.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    kind, digits = (np.float32, 9) if single else (np.float64, 17)
    rounded = kind(value)
    shown = f"{rounded:g}"
    if kind(shown) != rounded:
        shown = f"{rounded:.{digits}g}"
    return shown if "." in shown or "e" in shown else f"{shown}.0"


def type_name(value: Any) -> str:
    """RapidJSON's name of a value's type."""
    match value:
        case None:
            return "Null"
        case bool():
            return "True" if value else "False"
        case dict():
            return "Object"
        case list():
            return "Array"
        case str():
            return "String"
    return "Number"


def is_integer(value: Any, low: int = _SMALLEST_INT64, high: int = _LARGEST_UINT64) -> bool:
    """Whether a value is an integer token within bounds; beyond 64 bits numbers are doubles."""
    return type(value) is int and low <= value <= high
