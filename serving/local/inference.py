"""Predict, classify and regress on a loaded version, with TF Serving's checks and texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from bnpipe.serving.local.servable import Servable, as_strings, dtype_name
from bnpipe.serving.local.status import Code, StatusError, invalid

DEFAULT_SIGNATURE = "serving_default"
Arrays = dict[str, Any]


def input_specs(servable: Servable, signature: str) -> dict[str, str]:
    """Names and types of a signature's inputs, for reading JSON.

    Raises:
        StatusError: there is no such signature.
    """
    name = signature or DEFAULT_SIGNATURE
    found = servable.signatures.get(name)
    if found is None:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    if not found.inputs:
        raise invalid(f"Failed to get input map for signature: {signature or 'DEFAULT'}")
    return {key: dtype_name(info.dtype) for key, info in found.inputs.items()}


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
    name = signature or DEFAULT_SIGNATURE
    found = servable.signatures.get(name)
    if found is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    _check_names(found, inputs)
    outputs = _outputs(found, output_filter)
    feeds = {info.name: inputs[key] for key, info in found.inputs.items()}
    for index, (key, info) in enumerate(found.inputs.items()):
        expected, received = dtype_name(info.dtype), _dtype_of(inputs[key])
        if expected != received:
            raise invalid(f"Expects arg[{index}] to be {expected} but {received} is provided")
    return dict(zip(outputs, servable.run(feeds, list(outputs.values())), strict=True))


def _dtype_of(array: Any) -> str:
    return dtype_name(tf.as_dtype(np.asarray(array).dtype).as_datatype_enum)


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
    found = _signature(servable, signature)
    if len(found.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(found.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(found.outputs)}")
    if "inputs" not in found.inputs:
        raise invalid(f"No classification inputs found in SignatureDef: {found}")
    names = {k: found.outputs[k].name for k in ("classes", "scores") if k in found.outputs}
    if not names:
        raise invalid(
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {found}'
        )
    computed = _run_on_examples(servable, found, names, examples)
    for key, expected in (("classes", "string"), ("scores", "float")):
        if key in computed:
            _check_matrix(key, computed[key], expected, len(examples))
    classes, scores = computed.get("classes"), computed.get("scores")
    shape = next(iter(computed.values())).shape
    classes = np.full(shape, b"", np.object_) if classes is None else classes
    scores = np.zeros(shape, np.float32) if scores is None else scores
    return [
        [(label, float(score)) for label, score in zip(*row, strict=True)]
        for row in zip(classes, scores, strict=True)
    ]


def regress(servable: Servable, signature: str, examples: Sequence[bytes]) -> list[float]:
    """One number for every example.

    Raises:
        StatusError: the signature cannot regress, or a kernel fails.
    """
    found = _signature(servable, signature)
    if len(found.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(found.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "inputs" not in found.inputs:
        raise invalid(f"No regression inputs found in SignatureDef: {found}")
    if "outputs" not in found.outputs:
        raise invalid(f"No regression outputs found in SignatureDef: {found}")
    names = {"outputs": found.outputs["outputs"].name}
    values = _run_on_examples(servable, found, names, examples)["outputs"]
    if np.shape(values) not in ((len(examples),), (len(examples), 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [{len(examples)}] or "
            f"[{len(examples)}, 1] but got {list(np.shape(values))}"
        )
    return [float(v) for v in np.ravel(values)]


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


def _signature(servable: Servable, signature: str) -> Any:
    name = signature or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    return servable.signatures[name]


def _run_on_examples(
    servable: Servable, signature: Any, names: Mapping[str, str], examples: Sequence[bytes]
) -> Arrays:
    if not examples:
        raise invalid("Input is empty.")
    feeds = {signature.inputs["inputs"].name: as_strings(examples)}
    return dict(zip(names, servable.run(feeds, list(names.values())), strict=True))


def _check_matrix(key: str, array: Any, expected: str, rows: int) -> None:
    if array.ndim != 2:
        shape = ",".join(map(str, array.shape))
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got [{shape}]")
    if _dtype_of(array) != expected:
        kind = f"DT_{expected.upper()}"
        raise invalid(f"Expected {key} Tensor of {kind}. Got: DT_{_dtype_of(array).upper()}")
    if len(array) != rows:
        raise invalid(f"Expected {key} output batch size of {rows}. Got: {len(array)}")
