"""From the JSON of a predict request to arrays, with TF Serving's checks and texts.

Nothing is compared with the signature's shape: a wrong width reaches the kernel, as it does there.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.local.rapidjson import LARGEST_FLOAT, format_error, is_integer, text, type_name
from serving.local.status import Code, StatusError, invalid

Array = npt.NDArray[Any]
Specs = Mapping[str, str]
"""Names of inputs and their types, as TensorFlow spells them: `float`, `uint8`, `string`."""

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


@dataclass(frozen=True)
class PredictInputs:
    """What a request asks with.

    Attributes:
        arrays: by input name.
        row: whether it came as `instances`; the answer then has one element per row.
    """

    arrays: dict[str, Array]
    row: bool


def signature_name(request: dict[str, Any]) -> str:
    """The signature that a request names; empty if it names none.

    Raises:
        StatusError: it is not a text.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {text(request)} not formatted correctly. 'signature_name' key must be "
            "a string value."
        )
    return name


def predict_inputs(request: dict[str, Any], specs: Specs) -> PredictInputs:
    """The arrays of a request, in row or columnar format.

    Raises:
        StatusError: the request does not fit the inputs.
    """
    if "instances" in request and "inputs" in request:
        raise format_error(
            request,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        )
    if "instances" in request:
        instances = request["instances"]
        if not isinstance(instances, list):
            raise format_error(request, "Expecting 'instances' to be an list/array")
        if not instances:
            raise format_error(request, "No values in 'instances' array")
        return PredictInputs(_rows(instances, specs), row=True)
    if "inputs" in request:
        return PredictInputs(_columns(request["inputs"], specs), row=False)
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: list[Any], specs: Specs) -> dict[str, Array]:
    if not isinstance(instances[0], dict) and len(specs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    named = _is_named(instances[0])
    rows: dict[str, list[Array]] = {}
    for index, instance in enumerate(instances):
        where = f"Failed to process element: {index}"
        if named != _is_named(instance):
            raise invalid(
                f"Expecting object but got list at item {index} of input list"
                if named
                else f"Expecting value/list but got object at item {index} of input list"
            )
        if not named:
            _add_row(rows, next(iter(specs)), instance, specs, where)
            continue
        for name, value in instance.items():
            _add_row(rows, name, value, specs, f"{where} key: {name}")
        if instance.keys() != specs.keys():
            raise invalid(
                f"{where} of 'instances' list. JSON object: {text(instance)} keys must be equal "
                f"to: {','.join(sorted(specs))}"
            )
    return {name: np.stack(found) for name, found in rows.items()}


def _add_row(rows: dict[str, list[Array]], name: str, value: Any, specs: Specs, where: str) -> None:
    try:
        if name not in specs:
            raise invalid(f"JSON object: does not have named input: {name}")
        found = _tensor(value, specs[name])
        first = rows.setdefault(name, [found])[0]
        if first.size != found.size:
            raise invalid(f"Expecting tensor size: {first.size} but got: {found.size}")
        if first.shape != found.shape:
            raise invalid(f"Expecting shape {_shape(first)} but got: {_shape(found)}")
        if first is not found:
            rows[name].append(found)
    except StatusError as error:
        raise invalid(f"{where} of 'instances' list. Error: {error}") from error


def _shape(array: Array) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _columns(value: Any, specs: Specs) -> dict[str, Array]:
    if not _is_named(value):
        if len(specs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        return {name: _tensor(value, dtype) for name, dtype in specs.items()}
    arrays = {}
    for name, dtype in specs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(value[name], dtype)
    return arrays


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


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


def _tensor(value: Any, dtype: str) -> Array:
    """One array. The first element of every list says how deep and how wide the others must be."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    parts: list[Array] = []
    _fill(value, 0, shape, dtype, parts)
    flat = np.concatenate(parts) if parts else np.empty(0, _numpy_type(dtype))
    return flat.reshape(shape)


def _fill(value: Any, level: int, shape: list[int], dtype: str, parts: list[Array]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise format_error(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}",
            )
        parts.append(_leaves([value], dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    if level == rank - 1 and not any(isinstance(v, list) for v in value):
        parts.append(_leaves(value, dtype))
        return
    for element in value:
        _fill(element, level + 1, shape, dtype, parts)


def _leaves(values: list[Any], dtype: str) -> Array:
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
