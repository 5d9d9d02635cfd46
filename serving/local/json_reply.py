"""From arrays to the JSON of an answer, as TF Serving writes it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.local.json_text import decimal, quoted
from bnpipe.serving.local.status import invalid

Array = npt.NDArray[Any]
_INDENT = "    "


def error_body(message: str) -> bytes:
    """The body of an answer that failed."""
    return _encode(f'{{\n    "error": {quoted(message)}\n}}')


def predictions(outputs: Mapping[str, Array]) -> bytes:
    """The answer to `instances`: one element per row, objects if there are several outputs.

    Raises:
        StatusError: an output has no rows, or a different number of them.
    """
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and len(array) != size:
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}"
            )
        size = len(array)
    rows = [
        {name: _on_one_line(array[row], name) for name, array in outputs.items()}
        for row in range(size or 0)
    ]
    if len(outputs) == 1:
        return _encode(_object("predictions", "[" + ", ".join(v for r in rows for v in r.values())))
    objects = [
        f"{_INDENT * 2}{{\n"
        + ",\n".join(f"{_INDENT * 3}{quoted(name)}: {value}" for name, value in row.items())
        + f"\n{_INDENT * 2}}}"
        for row in rows
    ]
    return _encode(_object("predictions", "[\n" + ",\n".join(objects)))


def _object(key: str, opened: str) -> str:
    """One member whose value is a list; RapidJSON closes lists on a line of their own."""
    return f"{{\n{_INDENT}{quoted(key)}: {opened}\n{_INDENT}]\n}}"


def outputs_by_name(outputs: Mapping[str, Array]) -> bytes:
    """The answer to `inputs`: whole outputs, an object of them if there are several."""
    if len(outputs) == 1:
        ((name, array),) = outputs.items()
        return _encode(f'{{\n{_INDENT}"outputs": {_on_lines(array, name, 1)}\n}}')
    members = [
        f"{_INDENT * 2}{quoted(name)}: {_on_lines(array, name, 2)}"
        for name, array in outputs.items()
    ]
    body = ",\n".join(members)
    return _encode(f'{{\n{_INDENT}"outputs": {{\n{body}\n{_INDENT}}}\n}}')


def classifications(rows: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """The answer to classify: label and score of every class, row by row."""
    shown = [
        "[" + ", ".join(f"[{_string(label)}, {decimal(score)}]" for label, score in row) + "]"
        for row in rows
    ]
    return _encode(_object("results", "[" + ", ".join(shown)))


def regressions(values: Sequence[float]) -> bytes:
    """The answer to regress."""
    shown = ", ".join(map(decimal, values))
    return _encode(f'{{\n{_INDENT}"results": [{shown}]\n}}')


def _on_one_line(array: Any, name: str) -> str:
    if np.ndim(array) == 0:
        return _leaf(array, name)
    return "[" + ", ".join(_on_one_line(element, name) for element in array) + "]"


def _on_lines(array: Any, name: str, depth: int) -> str:
    if np.ndim(array) == 0:
        return _leaf(array, name)
    if not len(array):
        return "[]"
    inner = _INDENT * (depth + 1)
    lines = [f"{inner}{_on_lines(element, name, depth + 1)}" for element in array]
    return "[\n" + ",\n".join(lines) + f"\n{_INDENT * depth}]"


def _leaf(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        if name.endswith("_bytes"):
            return f'{{"b64": "{base64.b64encode(value).decode()}"}}'
        return _string(value)
    array = np.asarray(value)
    if array.dtype in (np.float32, np.float64):
        return decimal(float(array), single=array.dtype == np.float32)
    if array.dtype == np.bool_:
        return "true" if array else "false"
    if array.dtype.kind in "iu":
        return str(int(array))
    raise invalid(f"Failed to write JSON value for tensor type: {_tensorflow_name(array)}")


def _tensorflow_name(array: Array) -> str:
    return {"float16": "half"}.get(array.dtype.name, array.dtype.name)


def _string(value: bytes) -> str:
    return quoted(value.decode("utf-8", "surrogateescape"))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
