"""From the JSON of a predict request to arrays, with TF Serving's checks and texts.

Nothing is compared with the signature's shape: a wrong width reaches the kernel, as it does there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.serving.local.json_text import format_error, text
from bnpipe.serving.local.json_values import array_of, is_base64
from bnpipe.serving.local.status import StatusError, invalid

Array = npt.NDArray[Any]
Specs = Mapping[str, str]
"""Names of inputs and their types, as TensorFlow spells them: `float`, `uint8`, `string`."""


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
    flat = np.concatenate(parts) if parts else array_of([], dtype)
    return flat.reshape(shape)


def _fill(value: Any, level: int, shape: list[int], dtype: str, parts: list[Array]) -> None:
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            raise format_error(
                value,
                f"found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}",
            )
        parts.append(array_of([value], dtype))
        return
    if level >= rank:
        raise invalid(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} "
            f"expected size: {shape[level]}"
        )
    if level == rank - 1 and not any(isinstance(v, list) for v in value):
        parts.append(array_of(value, dtype))
        return
    for element in value:
        _fill(element, level + 1, shape, dtype, parts)
