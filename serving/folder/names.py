"""Names in serving: those of versions, and those that a model may have."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bnpipe.data.errors import RequestError
from bnpipe.serving.errors import ServingError

LARGEST_VERSION = 2**63 - 1

# absl::SimpleAtoi<int64>, which TF Serving applies to the names in a base path.
# Leading zeros apart: Python refuses to convert thousands of digits.
_VERSION = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,19})[ \t\n\v\f\r]*")
_PATTERN = re.compile(r"[][*?\\]")
_MODEL_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def parse_version(name: str) -> int | None:
    """The version that TF Serving takes a name for: also `007`, `+7`, ` 7` and `-7` are numbers."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if -LARGEST_VERSION - 1 <= number <= LARGEST_VERSION else None


def plain_path(path: Path, what: str) -> Path:
    """A path that is no pattern, neither as it is nor with its links followed.

    TensorFlow and Beam read all paths as patterns: no server finds the variables below `a[b]`.

    Raises:
        RequestError: it is one.
    """
    if letters := set(_PATTERN.findall(f"{path}{os.path.realpath(path)}")):
        raise RequestError(
            f"{what}: expected a path without [ ] * ? \\, which TensorFlow takes for a pattern, "
            f"received {path} ({' '.join(sorted(letters))})",
            hint="name another folder (BNPIPE_HOME, serving.base_path), or rename it",
        )
    return path


def check_model_name(name: str) -> None:
    """Refuse names that a URL, a folder or a label would not survive.

    Raises:
        ServingError: it is not a lower-case letter and up to 62 of `a-z 0-9 _ -`.
    """
    if not _MODEL_NAME.fullmatch(name):
        raise ServingError(
            f"model name: expected a lower-case letter, then up to 62 of a-z, 0-9, _ and -, "
            f"received {name!r}",
            hint="set serving.model_name",
        )


def default_model_name(dataset: str) -> str:
    """The model name for a data set: `emnist/digits` gives `emnist-digits`."""
    name = re.sub(r"[^a-z0-9_-]+", "-", dataset.lower()).strip("-_")
    if not name[:1].isalpha():
        name = f"model-{name}".rstrip("-")
    return name[:63]
