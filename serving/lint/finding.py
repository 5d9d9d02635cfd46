"""What the lint tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Code = Literal[
    "link",
    "unknown_file",
    "missing_file",
    "too_large",
    "unreadable",
    "tags",
    "signature",
    "op",
    "function",
    "xla",
    "device",
    "path",
    "variable",
    "warmup",
]


@dataclass(frozen=True)
class Finding:
    """Something wrong with a SavedModel.

    Attributes:
        code: what kind of thing, for scripts.
        sentence: what was expected and what was found.
    """

    code: Code
    sentence: str
