"""Predict and classify on a loaded version, with TF Serving's checks and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bnpipe.serving.export.signatures import DEFAULT, as_strings
from bnpipe.serving.local.servable import Servable, dtype_name
from bnpipe.serving.local.status import Code, StatusError, invalid

Arrays = dict[str, Any]


def input_specs(servable: Servable, signature: str) -> dict[str, str]:
    """Names and types of a signature's inputs, for reading JSON.

    Raises:
        StatusError: there is no such signature.
    """
    name = signature or DEFAULT
    if name not in servable.signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    inputs = servable.signatures[name].inputs
    return {key: dtype_name(info.dtype) for key, info in inputs.items()}


def predict(
    servable: Servable,
    signature: str,
    inputs: Mapping[str, Any],
    output_filter: Sequence[str] = (),
) -> Arrays:
    """Outputs by name.

    Args:
        servable: the loaded version.
        signature: its name; empty for the default one.
        inputs: arrays by name.
        output_filter: which outputs to compute; all if empty.

    Raises:
        StatusError: the request does not fit the signature, or a kernel fails.
    """
    name = signature or DEFAULT
    if name not in servable.signatures:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    definition = servable.signatures[name]
    _check_names(definition, inputs)
    outputs = _outputs(definition, output_filter)
    feeds = {}
    for index, (key, info) in enumerate(definition.inputs.items()):
        dtype = tf.as_dtype(np.asarray(inputs[key]).dtype).as_datatype_enum
        expected, received = dtype_name(info.dtype), dtype_name(dtype)
        if expected != received:
            raise invalid(f"Expects arg[{index}] to be {expected} but {received} is provided")
        feeds[info.name] = inputs[key]
    return dict(zip(outputs, servable.run(feeds, list(outputs.values())), strict=True))


def _check_names(signature: Any, inputs: Mapping[str, Any]) -> None:
    expected, received = set(signature.inputs), set(inputs)
    if len(received) != len(expected):
        raise invalid(
            f"input size does not match signature: {len(received)}!={len(expected)} "
            f"len({_set(received)}) != len({_set(expected)}). Sent extra: "
            f"{_set(received - expected)}. Missing but required: {_set(expected - received)}."
        )
    for key, info in signature.inputs.items():
        if key not in inputs:
            raise invalid(
                f"Signature input alias: {key}(feed name: {info.name}) not found in request and "
                "no default value provided. Inputs expected to be in the request "
                f"{_set(received)}, or default input alias set: "
            )


def _outputs(signature: Any, output_filter: Sequence[str]) -> dict[str, str]:
    """Tensor by output name."""
    names: dict[str, str] = {}
    for key in output_filter:
        if key not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {key} Outputs expected to be in "
                f"the set {_set(signature.outputs)}."
            )
        if key in names:
            raise invalid(f"duplicate output tensor alias: {key}")
        names[key] = signature.outputs[key].name
    return names or {key: info.name for key, info in signature.outputs.items()}


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def classify(
    servable: Servable, signature: str, examples: Sequence[bytes]
) -> list[list[tuple[bytes, float]]]:
    """Label and score of every class, example by example.

    Args:
        servable: the loaded version.
        signature: its name; empty for the default one.
        examples: serialized tf.Examples.

    Raises:
        StatusError: the signature cannot classify, or a kernel fails.
    """
    name = signature or DEFAULT
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    definition = servable.signatures[name]
    if set(definition.inputs) != {"inputs"}:
        raise invalid(f"No classification inputs found in SignatureDef: {definition}")
    if set(definition.outputs) != {"classes", "scores"}:
        raise invalid(
            'Expected classification signature outputs to contain "classes" and "scores". '
            f"Signature was: {definition}"
        )
    if not examples:
        raise invalid("Input is empty.")
    feeds = {definition.inputs["inputs"].name: as_strings(examples)}
    fetches = [definition.outputs[key].name for key in ("classes", "scores")]
    return [
        [(label, float(score)) for label, score in zip(*row, strict=True)]
        for row in zip(*servable.run(feeds, fetches), strict=True)
    ]


def serialized_examples(given: Any) -> list[bytes]:
    """The examples of an `Input` message; a context's bytes come before those of every example."""
    match given.WhichOneof("kind"):
        case "example_list":
            return [e.SerializeToString() for e in given.example_list.examples]
        case "example_list_with_context":
            shared = given.example_list_with_context
            head = shared.context.SerializeToString()
            return [head + e.SerializeToString() for e in shared.examples]
    return []
