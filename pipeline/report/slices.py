"""Slices as the report names and orders them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnpipe.pipeline.report.contents import Contents

Json = Mapping[str, Any]
Parts = Mapping[str, Json]
"""Slices of `metrics.json` by name."""


def slice_value(contents: Contents, column: str, value: str) -> str:
    """A slice's value as people call it: classes by their names."""
    if column == "label" and value.isdecimal():
        return contents.class_name(int(value))
    return value


def in_order(parts: Parts) -> dict[str, Json]:
    """Slices by value, numbers as numbers."""

    def order(name: str) -> tuple[bool, int, str]:
        value = name.partition(":")[2]
        return not value.isdecimal(), int(value) if value.isdecimal() else 0, value

    return {name: parts[name] for name in sorted(parts, key=order)}


def slice_name(contents: Contents, name: str) -> str:
    """A slice by one column, or the whole, as people call it."""
    column, _, value = name.partition(":")
    return f"{column} {slice_value(contents, column, value)}" if value else name
