"""Variables: every one that the graph has is in the checkpoint, and every byte can be read.

TensorFlow Serving itself loads a graph without its variables, calls it available, and fails every
request. Heavy: imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import trackable_object_graph_pb2

from bnpipe.serving.lint.finding import Finding

_PREFIX = "variables/variables"
_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE = "VARIABLE_VALUE"
# TensorFlow's reader raises Python's own errors for some codes: IndexError for OUT_OF_RANGE.
_UNREADABLE = (tf.errors.OpError, DecodeError, ValueError, LookupError, RuntimeError)


def check_variables(folder: Path, graph: Any) -> list[Finding]:
    """Index and shards agree in number, size and checksum; the graph's variables are there."""
    try:
        return list(_check(folder, graph))
    except _UNREADABLE as error:
        text = getattr(error, "message", str(error)).replace(f"{folder}/", "") or repr(error)
        return [Finding("variable", f"{_PREFIX} cannot be read: {text.splitlines()[0]}")]


def _check(folder: Path, graph: Any) -> Iterator[Finding]:
    reader = tf.train.load_checkpoint(str(folder / _PREFIX))
    types = reader.get_variable_to_dtype_map()
    shapes = reader.get_variable_to_shape_map()
    sizes = {
        name: types[name].size * tf.TensorShape(shape).num_elements()
        for name, shape in shapes.items()
        if types[name] != tf.string
    }
    stored = sum(p.stat().st_size for p in (folder / "variables").glob("variables.data-*"))
    if sum(sizes.values()) > stored:  # told before memory for them is asked for
        told = f"the index declares {sum(sizes.values())} bytes, the shards hold {stored}"
        yield Finding("variable", f"{_PREFIX}: {told}")
        return
    for name in sorted(shapes):
        reader.get_tensor(name)  # reads to the end, and compares the checksum
    yield from _check_objects(graph, reader, types, shapes)


def _check_objects(
    graph: Any, reader: Any, types: dict[str, Any], shapes: dict[str, Any]
) -> Iterator[Finding]:
    """The checkpoint numbers its objects as the graph does."""
    if _OBJECTS not in shapes:
        yield Finding("variable", f"{_PREFIX} does not say which variable is which")
        return
    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(
        reader.get_tensor(_OBJECTS)
    ).nodes
    for number, node in enumerate(graph.object_graph_def.nodes):
        if node.WhichOneof("kind") != "variable":
            continue
        variable = node.variable
        attributes = objects[number].attributes if number < len(objects) else ()
        keys = [a.checkpoint_key for a in attributes if a.name == _VALUE]
        if not keys or keys[0] not in shapes:
            yield Finding("variable", f"{variable.name} has no value in {_PREFIX}")
            continue
        expected = [dim.size for dim in variable.shape.dim]
        received = list(shapes[keys[0]])
        if received != expected or types[keys[0]].as_datatype_enum != variable.dtype:
            told = f"expected the shape {expected}, received {received} of {types[keys[0]].name}"
            yield Finding("variable", f"{variable.name}: {told}")
