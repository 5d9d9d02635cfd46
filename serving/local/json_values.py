"""From JSON values to the elements of an array, with TF Serving's checks and texts."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.local.json_text import LARGEST_FLOAT, format_error, is_integer, text, type_name
from bnpipe.serving.local.status import Code, StatusError, invalid

Array = npt.NDArray[Any]

# Largest whole number that a floating point type holds without loss, and its largest number.
_FLOATS: dict[str, tuple[Any, int, float]] = {
    "float": (np.float32, 2**24 - 1, LARGEST_FLOAT),
    "double": (np.float64, 2**53 - 1, float(np.finfo(np.float64).max)),
}
# Small integers take any int32 and keep its low bits: the server checks no range.
_INTEGERS: dict[str, tuple[Any, int, int]] = {
    "int32": (np.int32, -(2**31), 2**31 - 1),
    "int16": (np.int16, -(2**31), 2**31 - 1),
    "int8": (np.int8, -(2**31), 2**31 - 1),
    "uint8": (np.uint8, -(2**31), 2**31 - 1),
    "int64": (np.int64, -(2**63), 2**63 - 1),
    "uint32": (np.uint32, 0, 2**32 - 1),
    "uint64": (np.uint64, 0, 2**64 - 1),
}
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


def array_of(values: list[Any], dtype: str) -> Array:
    """The array of a list without lists; whole rows at once, element by element to find errors."""
    quick = _quick(values, dtype)
    if quick is not None:
        return quick
    convert = _CONVERT.get(dtype)
    found = [_leaf(value, dtype, convert) for value in values]
    if dtype in _INTEGERS:  # via a wide type: the low bits are kept
        wide = np.uint64 if dtype == "uint64" else np.int64
        return np.array(found, wide).astype(_numpy_type(dtype))
    return np.array(found, _numpy_type(dtype))


def _quick(values: list[Any], dtype: str) -> Array | None:
    """The array of numbers of the plainest kind, else None."""
    kinds = set(map(type, values))
    if dtype in _FLOATS and kinds <= {int, float}:
        numpy_type, largest_whole, largest = _FLOATS[dtype]
        array = np.array(values, np.float64) if kinds == {float} else None
        if int in kinds and all(-largest_whole <= v <= largest_whole for v in values):
            array = np.array(values, np.float64)
        if array is not None and (np.abs(array) <= largest).all():
            return array.astype(numpy_type)
    if dtype in _INTEGERS and kinds == {int}:
        numpy_type, low, high = _INTEGERS[dtype]
        if low <= min(values) and max(values) <= high:
            wide = np.uint64 if dtype == "uint64" else np.int64
            return np.array(values, wide).astype(numpy_type)
    return None


def _leaf(value: Any, dtype: str, convert: Callable[[Any, str], Any] | None) -> Any:
    if isinstance(value, dict):
        if dtype != "string":
            raise _type_error(value, dtype)
        return decode_base64(value)
    if convert is None:
        raise StatusError(
            Code.UNIMPLEMENTED, f"Conversion of JSON Value: {text(value)} to type: {dtype}"
        )
    return convert(value, dtype)


def _float(value: Any, dtype: str) -> float:
    if type(value) not in (int, float):
        raise _type_error(value, dtype)
    check_lossless(value, dtype)
    return float(value)


def check_lossless(value: float, dtype: str) -> None:
    """Refuse numbers that a floating point type would change beyond rounding.

    Raises:
        StatusError: it is a whole number with too many digits, or too large.
    """
    _, largest_whole, largest = _FLOATS[dtype]
    bound = largest_whole if is_integer(value) else largest
    if np.isfinite(float(value)) and abs(value) > bound:
        raise invalid(
            f"Cannot convert JSON value: {text(value)} to {dtype} without loss of precision."
        )


def _integer(value: Any, dtype: str) -> int:
    _, low, high = _INTEGERS[dtype]
    if not is_integer(value, low, high):
        raise _type_error(value, dtype)
    return int(value)


def _bool(value: Any, dtype: str) -> bool:
    if not isinstance(value, bool):
        raise _type_error(value, dtype)
    return value


def _string(value: Any, dtype: str) -> bytes:
    if not isinstance(value, str):
        raise _type_error(value, dtype)
    return value.encode("utf-8", "surrogateescape")


_CONVERT: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(_FLOATS, _float),
    **dict.fromkeys(_INTEGERS, _integer),
    "bool": _bool,
    "string": _string,
}


def _numpy_type(dtype: str) -> Any:
    if dtype in _FLOATS:
        return _FLOATS[dtype][0]
    if dtype in _INTEGERS:
        return _INTEGERS[dtype][0]
    return {"bool": np.bool_, "string": np.object_}.get(dtype, np.object_)


def _type_error(value: Any, dtype: str) -> StatusError:
    return invalid(
        f"JSON Value: {text(value)} Type: {type_name(value)} is not of expected type: {dtype}"
    )


def is_base64(value: Any) -> bool:
    """Whether a value stands for bytes: `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Any) -> bytes:
    """The bytes of `{"b64": "..."}`: standard alphabet, padding and white space as one likes.

    Raises:
        StatusError: it is something else.
    """
    if not is_base64(value):
        raise format_error(value, "not formatted correctly for base64 data")
    letters = "".join(value["b64"].split())
    padded = letters if letters.endswith("=") else letters + "=" * (-len(letters) % 4)
    try:
        if not _BASE64.fullmatch(letters):
            raise ValueError("another alphabet")
        return base64.b64decode(padded)
    except (ValueError, binascii.Error):
        raise invalid("Unable to base64 decode") from None
