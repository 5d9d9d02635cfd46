"""From the JSON of a classify or regress request to tf.Examples, with TF Serving's checks."""

from __future__ import annotations

from typing import Any

from bnpipe.serving.local.json_text import format_error, is_integer, type_name
from bnpipe.serving.local.json_values import check_lossless, decode_base64, is_base64
from bnpipe.serving.local.status import StatusError, invalid

Feature = tuple[str, list[Any]]
"""A kind (`bytes`, `float`, `int64`; empty if there are no values) and the values."""
Example = dict[str, Feature]


def examples(request: dict[str, Any]) -> tuple[list[Example], Example | None]:
    """The examples of a request, and the context that they share, if it has one.

    Raises:
        StatusError: the request is not one.
    """
    context = _example(request["context"]) if "context" in request else None
    if "examples" not in request:
        raise format_error(
            request, "When method is classify, key 'examples' is expected and was not found"
        )
    found = request["examples"]
    if not isinstance(found, list):
        raise format_error(request, "Expecting 'examples' value to be an list/array")
    if not found:
        raise format_error(request, "'examples' value is an empty array")
    return [_example(value) for value in found], context


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {type_name(value)}")
    return {
        name: _feature(name, content if isinstance(content, list) else [content])
        for name, content in value.items()
    }


def _feature(name: str, values: list[Any]) -> Feature:
    kind = ""
    found = []
    for value in values:
        this = _kind(name, value)
        if kind and this != kind:
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kind}")
        kind = this
        found.append(_convert(name, value, kind))
    return kind, found


def _kind(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "int64"
    if isinstance(value, str) or is_base64(value):
        return "bytes"
    if value is None or isinstance(value, list | dict):
        raise _wrong(name, f"has element with unexpected JSON type: {type_name(value)}")
    return "int64" if is_integer(value) else "float"


def _convert(name: str, value: Any, kind: str) -> bytes | float | int:
    match kind:
        case "bytes" if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        case "bytes":
            return decode_base64(value)
        case "float":
            check_lossless(value, "float")
            return float(value)
    if value > 2**63 - 1:
        raise _wrong(name, "has uint64 element. Only int64 is supported.")
    return int(value)


def _wrong(name: str, what: str) -> StatusError:
    return invalid(f"Feature: {name} {what}")
