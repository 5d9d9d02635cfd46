"""JSON of requests and answers, by the rules of TF Serving's REST.

Shapes, types and status codes are the server's; error texts begin like its own. NaN and Infinity
are numbers, and whatever follows the first value is ignored. Nothing is compared with a signature's
shape: a wrong width reaches the kernel, as it does there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from bnpipe.serving.export.signatures import Array, as_strings
from bnpipe.serving.local.status import Code, StatusError, invalid

Specs = Mapping[str, str]
"""Names of inputs and their types, as TensorFlow spells them: `float`, `uint8`, `string`."""
Example = dict[str, tuple[str, list[Any]]]
"""By feature its kind (`bytes`, `float`, `int64`; empty if there are no values) and the values."""

_LONGEST = 256  # of a value that an error shows
_FLOATS = {"float": np.float32, "double": np.float64}
# A type and the one whose numbers it takes: small integers keep the low bits of any int32.
_INTEGERS: dict[str, tuple[Any, Any]] = {
    **{name: (np.dtype(name), np.int32) for name in ("int8", "int16", "int32", "uint8")},
    **{name: (np.dtype(name), np.dtype(name)) for name in ("int64", "uint32", "uint64")},
}
_KINDS: dict[str, frozenset[type]] = {
    **dict.fromkeys(_FLOATS, frozenset((int, float))),
    **dict.fromkeys(_INTEGERS, frozenset((int,))),
    "bool": frozenset((bool,)),
    "string": frozenset((str, dict)),
}
_TYPE_NAMES = {type(None): "Null", dict: "Object", list: "Array", str: "String"}


def parse(body: bytes) -> dict[str, Any]:
    """The object at the start of a request body.

    Raises:
        StatusError: it is not JSON, or its first value is not an object.
    """
    text = body.decode("utf-8-sig", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise invalid("JSON Parse error: The document is empty")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(value, dict):
        raise _wrong(value, "Is not object")
    return value


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names; empty if it names none.

    Raises:
        StatusError: it is not a text.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise _wrong(request, "not formatted correctly. 'signature_name' key must be a string")
    return name


def predict_inputs(request: Mapping[str, Any], specs: Specs) -> tuple[dict[str, Array], bool]:
    """The arrays of a request by input, and whether it came in rows (`instances`).

    The arrays are [N, ...] of the inputs' types; bytes are object arrays.

    Raises:
        StatusError: the request does not fit the inputs.
    """
    if "instances" in request and "inputs" in request:
        raise _wrong(request, "Not formatted correctly expecting only one of 'inputs', 'instances'")
    if "inputs" in request:
        return _columns(request["inputs"], specs), False
    if "instances" not in request:
        raise invalid("Missing 'inputs' or 'instances' key")
    if not isinstance(request["instances"], list):
        raise _wrong(request, "Expecting 'instances' to be an list/array")
    if not request["instances"]:
        raise _wrong(request, "No values in 'instances' array")
    return _rows(request["instances"], specs), True


def _columns(value: Any, specs: Specs) -> dict[str, Array]:
    if not _is_named(value):
        if len(specs) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object: several inputs")
        value = dict.fromkeys(specs, value)
    for name in specs:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: _tensor(value[name], dtype) for name, dtype in specs.items()}


def _rows(instances: list[Any], specs: Specs) -> dict[str, Array]:
    named = _is_named(instances[0])
    if not named and len(specs) > 1:
        raise invalid("instances is a plain list, but expecting list of objects: several inputs")
    for index, instance in enumerate(instances):
        if _is_named(instance) != named:
            expected = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {expected} at item {index} of input list")
        if named and instance.keys() != specs.keys():
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{_shown(instance)} keys must be equal to: {','.join(sorted(specs))}"
            )
    if not named:
        return {name: _column(instances, dtype, "") for name, dtype in specs.items()}
    return {
        name: _column([row[name] for row in instances], dtype, f" key: {name}")
        for name, dtype in specs.items()
    }


def _column(rows: list[Any], dtype: str, key: str) -> Array:
    """One input of all rows; only when that fails is each looked at, to name the first at fault."""
    try:
        return _tensor(rows, dtype)
    except StatusError:
        shapes = []
        for index, row in enumerate(rows):
            try:
                shapes.append(list(_tensor(row, dtype).shape))
                if shapes[-1] != shapes[0]:
                    raise invalid(f"Expecting shape {shapes[0]} but got: {shapes[-1]}")
            except StatusError as error:
                raise invalid(
                    f"Failed to process element: {index}{key} of 'instances' list. Error: {error}"
                ) from error
        raise


def _tensor(value: Any, dtype: str) -> Array:
    """One array of any rank: lists are opened level by level, and every level is even."""
    shape: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        level, size = len(shape), len(flat[0])
        for element in flat:
            if not isinstance(element, list):
                raise _wrong(element, f"found at incorrect level: {level + 1} in the JSON DOM.")
            if len(element) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(element)} at level: {level} "
                    f"expected size: {size}"
                )
        shape.append(size)
        flat = list(chain.from_iterable(flat))
    return _array(flat, dtype).reshape(shape)


def _array(flat: list[Any], dtype: str) -> Array:
    kinds = _KINDS.get(dtype)
    if kinds is None:
        shown = f"Conversion of JSON Value: {_shown(flat)} to type: {dtype}"
        raise StatusError(Code.UNIMPLEMENTED, shown)
    if not set(map(type, flat)) <= kinds:
        raise _type_error(next(value for value in flat if type(value) not in kinds), dtype)
    if dtype == "string":
        return as_strings([_bytes(value) for value in flat])
    if dtype in _INTEGERS:
        kind, limits = _INTEGERS[dtype][0], np.iinfo(_INTEGERS[dtype][1])
        if flat and not limits.min <= min(flat) <= max(flat) <= limits.max:
            outside = (value for value in flat if not limits.min <= value <= limits.max)
            raise _type_error(next(outside), dtype)
        return np.array(flat, np.uint64 if dtype == "uint64" else np.int64).astype(kind)
    with np.errstate(over="ignore"):  # beyond the largest number of its type it is infinite
        return _doubles(flat).astype(_FLOATS.get(dtype, np.bool_))


def _doubles(numbers: list[Any]) -> Array:
    try:
        return np.array(numbers, np.float64)
    except OverflowError:
        raise invalid("JSON Parse error: Number too big to be stored in double.") from None


def examples(request: Mapping[str, Any]) -> tuple[list[Example], Example]:
    """The examples of a classify request, and the context that they share.

    Raises:
        StatusError: the request is not one.
    """
    context = _example(request.get("context", {}))
    if "examples" not in request:
        raise _wrong(request, "When method is classify, key 'examples' is expected")
    if not isinstance(request["examples"], list):
        raise _wrong(request, "Expecting 'examples' value to be an list/array")
    if not request["examples"]:
        raise _wrong(request, "'examples' value is an empty array")
    return [_example(value) for value in request["examples"]], context


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {_type_name(value)}")
    features: Example = {}
    for name, content in value.items():
        values = content if isinstance(content, list) else [content]
        kinds = [_kind(name, value) for value in values]
        if len(set(kinds)) > 1:
            raise invalid(f"Unexpected element type in feature: {name} expecting type: {kinds[0]}")
        kind = kinds[0] if kinds else ""
        if kind == "bytes":
            values = [_bytes(value) for value in values]
        features[name] = kind, _doubles(values).tolist() if kind == "float" else values
    return features


def _kind(name: str, value: Any) -> str:
    """Whole numbers are integers, and a float feature takes none of them."""
    if isinstance(value, str) or _is_base64(value):
        return "bytes"
    if value is None or isinstance(value, list | dict):
        shown = _type_name(value)
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {shown}")
    if isinstance(value, float) or not -(2**63) <= value < 2**64:
        return "float"
    if value >= 2**63:
        raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
    return "int64"


def predictions(outputs: Mapping[str, Array], *, rows: bool) -> bytes:
    """The answer to predict: rows or whole outputs, by name if there are several outputs.

    Args:
        outputs: [N, ...] of any type that JSON has, by name; bytes are object arrays.
        rows: whether the answer goes row by row, which needs N to be the same for all.

    Raises:
        StatusError: rows are asked for and an output has none, or a different number of them.
    """
    values = {name: _values(array, name) for name, array in outputs.items()}
    first = next(iter(values.values()))
    if not rows:
        return _encoded({"outputs": values if len(values) > 1 else first})
    for name, value in values.items():
        if not isinstance(value, list):
            raise invalid(f"Tensor name: {name} has no shape information")
        if len(value) != len(first):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(value)}")
    if len(values) == 1:
        return _encoded({"predictions": first})
    by_row = zip(*values.values(), strict=True)
    return _encoded({"predictions": [dict(zip(values, row, strict=True)) for row in by_row]})


def classifications(rows: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """The answer to classify: label and score of every class, row by row."""
    shown = [[[_text(label), float(str(np.float32(p)))] for label, p in row] for row in rows]
    return _encoded({"results": shown})


def error_body(message: str) -> bytes:
    """The body of an answer that failed."""
    return _encoded({"error": message}, indent=4)


def _values(array: Any, name: str) -> Any:
    array = np.asarray(array)
    if array.dtype == np.float32:  # by way of the shortest text: 0.1, not 0.10000000149011612
        return array.astype(np.str_).astype(np.float64).tolist()
    if array.dtype.kind in "biu" or array.dtype == np.float64:
        return array.tolist()
    if array.dtype != np.object_:
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype}")
    write = _base64 if name.endswith("_bytes") else _text
    return np.asarray(np.frompyfunc(write, 1, 1)(array), np.object_).tolist()


def _base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _bytes(value: Any) -> bytes:
    """The bytes of a text, or of `{"b64": "..."}`: padding and white space as one likes."""
    if not isinstance(value, str) and not _is_base64(value):
        raise _wrong(value, "not formatted correctly for base64 data")
    try:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        letters = "".join(value["b64"].split())
        padding = "" if letters.endswith("=") else "=" * (-len(letters) % 4)
        return base64.b64decode(letters + padding, validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_named(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _encoded(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent).encode()


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _type_name(value: Any) -> str:
    return str(value) if isinstance(value, bool) else _TYPE_NAMES.get(type(value), "Number")


def _wrong(value: Any, what: str) -> StatusError:
    return invalid(f"JSON Value: {_shown(value)} {what}")


def _type_error(value: Any, dtype: str) -> StatusError:
    if isinstance(value, list):
        return invalid("Encountered list at unexpected level")
    return _wrong(value, f"Type: {_type_name(value)} is not of expected type: {dtype}")
