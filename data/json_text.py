"""JSON as others read it, without the NaN and Infinity that Python writes. Standard library."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any


def json_text(value: Any, *, default: Callable[[Any], Any] | None = None, **layout: Any) -> str:
    """A value as JSON; a number that is not finite becomes null.

    Args:
        value: of what `json.dumps` takes.
        default: makes something of other values, as for `json.dumps`.
        layout: `indent`, `sort_keys`, `separators`, `ensure_ascii`, as for `json.dumps`.

    Raises:
        TypeError: something in it is of another type.
    """
    try:
        return json.dumps(value, default=default, allow_nan=False, **layout)
    except ValueError:
        numbers = json.loads(json.dumps(value, default=default))
        return json.dumps(plain(numbers), allow_nan=False, **layout)


def plain(value: Any) -> Any:
    """The same tree with null for numbers that JSON cannot say (NaN and infinities)."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
