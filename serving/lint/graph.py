"""The graph: one, tagged `serve`, of allowed operations, without devices, paths or huge constants.

Heavy: the messages come with TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from bnpipe.serving.lint.files import GRAPH
from bnpipe.serving.lint.finding import Finding
from bnpipe.serving.lint.ops import ALLOWED, PYTHON, SAVER, WRITER

TAGS = ["serve"]
INIT_OPS = ("saved_model_main_op", "legacy_init_op")
"""Collections that name what is run once, when the model is loaded."""
MOST_CONSTANT_BYTES = 4 << 20
"""All constants of a graph together, as large as they are once loaded; weights are variables."""

_XLA = "_XlaMustCompile"
_CPU = ("", "/device:CPU:0", "/device:CPU:*")
_FUNCTION_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_WIDTHS = {
    types_pb2.DT_DOUBLE: 8,
    types_pb2.DT_INT64: 8,
    types_pb2.DT_UINT64: 8,
    types_pb2.DT_HALF: 2,
    types_pb2.DT_INT16: 2,
    types_pb2.DT_UINT8: 1,
    types_pb2.DT_INT8: 1,
}
_OTHER_WIDTH = 4


def read_graph(folder: Path) -> tuple[Any, list[Finding]]:
    """The only `MetaGraphDef` of a SavedModel, or None and why there is none."""
    try:
        model = saved_model_pb2.SavedModel.FromString((folder / GRAPH).read_bytes())
    except (OSError, DecodeError) as error:
        return None, [Finding("unreadable", f"{GRAPH} is no SavedModel: {error}")]
    if len(model.meta_graphs) != 1:
        told = f"{GRAPH}: expected one graph, received {len(model.meta_graphs)}"
        return None, [Finding("tags", told)]
    graph = model.meta_graphs[0]
    tags = list(graph.meta_info_def.tags)
    if tags != TAGS:
        return graph, [Finding("tags", f"tags: expected {TAGS}, received {tags}")]
    return graph, []


def check_graph(folder: Path, graph: Any) -> list[Finding]:
    """Operations, XLA, devices, constants and assets of a graph and all its functions."""
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    found = list(_check_assets(folder, graph))
    bodies = [("the graph", graph.graph_def.node)]
    bodies += [(name, f.node_def) for name, f in functions.items()]
    for where, nodes in bodies:
        found.extend(_check_nodes(where, nodes, functions))
    found.extend(_check_disks(graph, functions))
    for name, function in functions.items():
        if _XLA in function.attr and function.attr[_XLA].b:
            found.append(_xla(name))
    for name in _recursive(functions):
        found.append(Finding("function", f"{name} calls itself: it would never end"))
    return [*found, *_check_constants(bodies)]


def _check_nodes(where: str, nodes: Any, functions: dict[str, Any]) -> Iterator[Finding]:
    for op in sorted({node.op for node in nodes} - ALLOWED - SAVER):
        told = "which is not on the list of serving/lint/ops.py"
        if op in PYTHON:
            told = "which calls Python; a server has none"
        yield Finding("op", f"{where} has {op}, {told}")
    for node in nodes:
        if node.device not in _CPU:
            yield Finding("device", f"{where}: {node.name} is tied to the device {node.device}")
        if _XLA in node.attr and node.attr[_XLA].b:
            yield _xla(f"{where}: {node.name}")
        for name in _called(node):
            if name not in functions:
                yield Finding("function", f"{where}: {node.name} calls {name}, which is missing")


def _check_disks(graph: Any, functions: dict[str, Any]) -> Iterator[Finding]:
    """Variables are restored when the model is loaded; all else that a server runs is pure."""
    asked = [info.name for s in graph.signature_def.values() for info in s.outputs.values()]
    for collection in INIT_OPS:
        asked += graph.collection_def[collection].node_list.value
    restoring = [graph.saver_def.restore_op_name]
    for starts, forbidden, told in (
        (asked, SAVER, "answers requests and has {}, which changes or reads disks"),
        (restoring, WRITER, "restores variables and has {}, which writes to disks"),
    ):
        for where, nodes in _reached(graph, functions, starts):
            for op in sorted({node.op for node in nodes} & forbidden):
                yield Finding("op", f"{where} {told.format(op)}")


def _xla(where: str) -> Finding:
    return Finding("xla", f"{where} must be compiled by XLA, which a server does not do")


def _reached(graph: Any, functions: dict[str, Any], starts: list[str]) -> list[tuple[str, Any]]:
    """The nodes that some nodes of the graph need, and the functions that run with them."""
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting = list(starts)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in nodes and name not in seen:
            seen.add(name)
            waiting.extend(nodes[name].input)
    called = _closure({c for name in seen for c in _called(nodes[name])}, functions)
    return [
        ("the graph", [nodes[name] for name in seen]),
        *((name, functions[name].node_def) for name in sorted(called)),
    ]


def _closure(names: set[str], functions: dict[str, Any]) -> set[str]:
    """Functions and all that they call."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in functions and name not in found:
            found.add(name)
            for node in functions[name].node_def:
                waiting.extend(_called(node))
    return found


def _recursive(functions: dict[str, Any]) -> list[str]:
    """Functions that call themselves, directly or through others."""
    called = {name: {c for n in f.node_def for c in _called(n)} for name, f in functions.items()}
    return [name for name, direct in called.items() if name in _closure(direct, functions)]


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _check_constants(bodies: list[tuple[str, Any]]) -> Iterator[Finding]:
    """Sizes as declared: one stored value may stand for a tensor of any size."""
    total = 0
    for where, nodes in bodies:
        handles_files = any(node.op in SAVER for node in nodes)
        for node in nodes:
            if node.op != "Const":
                continue
            tensor = node.attr["value"].tensor
            count = math.prod(max(dim.size, 0) for dim in tensor.tensor_shape.dim)
            width = _WIDTHS.get(tensor.dtype, _OTHER_WIDTH)
            total += max(count * width, tensor.ByteSize())
            if handles_files:
                for text in tensor.string_val:
                    if text.startswith(b"/") or b"://" in text or b".." in text.split(b"/"):
                        shown = text.decode(errors="replace")
                        yield Finding("path", f"{where}: {node.name} names the file {shown}")
    if total > MOST_CONSTANT_BYTES:
        told = f"constants: expected at most {MOST_CONSTANT_BYTES} bytes, received {total}"
        yield Finding("too_large", f"{told}; weights belong into variables")


def _check_assets(folder: Path, graph: Any) -> Iterator[Finding]:
    """Asset files are named by the graph, lie in `assets/`, and no others do."""
    named = set()
    for asset in graph.asset_file_def:
        name = PurePosixPath(asset.filename)
        if name.is_absolute() or ".." in name.parts:
            yield Finding("path", f"asset {asset.filename}: expected a name in assets/")
            continue
        named.add(f"assets/{name}")
        if not (folder / "assets" / name).is_file():
            yield Finding("missing_file", f"assets/{name} is missing")
    present = (p.relative_to(folder).as_posix() for p in (folder / "assets").rglob("*"))
    for path in sorted(set(present) - named):
        yield Finding("unknown_file", f"{path} is named nowhere in the graph")
