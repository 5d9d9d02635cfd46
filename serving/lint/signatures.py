"""The five signatures that clients know: names, types, and the batch as first dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tensorflow.core.framework import types_pb2

from bnpipe.serving.lint.finding import Finding

INIT = "__saved_model_init_op"
_TYPES = {number: name for name, number in types_pb2.DataType.items()}
Shape = tuple[str, ...]


@dataclass(frozen=True)
class _Tensor:
    """A type, and the sizes behind the batch by name: D features, H x W pixels, K classes."""

    dtype: str
    sizes: Shape = ()


_FEATURES = {"features": _Tensor("DT_FLOAT", ("D",))}
_PREDICTION = {"probabilities": _Tensor("DT_FLOAT", ("K",)), "class_id": _Tensor("DT_INT64")}
EXPECTED: Mapping[str, tuple[Mapping[str, _Tensor], Mapping[str, _Tensor]]] = {
    "serving_default": (_FEATURES, _PREDICTION),
    "serve_images": ({"images": _Tensor("DT_UINT8", ("H", "W"))}, _PREDICTION),
    "serve_png": ({"image_bytes": _Tensor("DT_STRING")}, _PREDICTION),
    "classify": (
        {"inputs": _Tensor("DT_STRING")},
        {"classes": _Tensor("DT_STRING", ("K",)), "scores": _Tensor("DT_FLOAT", ("K",))},
    ),
    "probabilities_only": (_FEATURES, {"probabilities": _Tensor("DT_FLOAT", ("K",))}),
}


def check_signatures(graph: Any) -> list[Finding]:
    """Signatures that are missing, unknown, or not what clients send and expect."""
    present = set(graph.signature_def) - {INIT}
    found = [_bad(name, "is missing") for name in EXPECTED if name not in present]
    found += [_bad(name, "is none that clients know") for name in sorted(present - set(EXPECTED))]
    sizes: dict[str, set[int]] = {}
    nodes = {node.name: node for node in graph.graph_def.node}
    for name, sides in EXPECTED.items():
        if name in present:
            signature = graph.signature_def[name]
            for side, expected in zip(("inputs", "outputs"), sides, strict=True):
                tensors = getattr(signature, side)
                found.extend(_check_side(f"{name} {side}", tensors, expected, nodes, sizes))
    return [*found, *_check_sizes(sizes)]


def _check_side(
    where: str,
    tensors: Mapping[str, Any],
    expected: Mapping[str, _Tensor],
    nodes: Mapping[str, Any],
    sizes: dict[str, set[int]],
) -> Iterator[Finding]:
    if set(tensors) != set(expected):
        yield _bad(where, f"expected {sorted(expected)}, received {sorted(tensors)}")
        return
    for key, tensor in expected.items():
        info = tensors[key]
        dtype = _TYPES.get(info.dtype, str(info.dtype))
        if dtype != tensor.dtype:
            yield _bad(f"{where} {key}", f"expected {tensor.dtype}, received {dtype}")
        dims = [dim.size for dim in info.tensor_shape.dim]
        right = not info.tensor_shape.unknown_rank and len(dims) == 1 + len(tensor.sizes)
        if not right or dims[0] != -1 or min(dims[1:], default=1) < 1:
            wanted = ", ".join(("-1", *tensor.sizes))
            yield _bad(f"{where} {key}", f"expected the shape [{wanted}], received {dims}")
            continue
        for name, size in zip(tensor.sizes, dims[1:], strict=True):
            sizes.setdefault(name, set()).add(size)
        node = nodes.get(info.name.partition(":")[0])
        if node is None:
            yield _bad(f"{where} {key}", f"is {info.name}, which the graph does not have")


def _check_sizes(sizes: Mapping[str, set[int]]) -> Iterator[Finding]:
    """One image size and one number of classes, whatever signature is asked."""
    for name, found in sizes.items():
        if len(found) > 1:
            yield Finding("signature", f"signatures disagree on {name}: {sorted(found)}")
    known = {name: min(found) for name, found in sizes.items()}
    if {"D", "H", "W"} <= known.keys() and known["D"] != known["H"] * known["W"]:
        told = f"images of {known['H']} x {known['W']} pixels do not have {known['D']} features"
        yield Finding("signature", told)


def _bad(where: str, what: str) -> Finding:
    return Finding("signature", f"signature {where} {what}")
