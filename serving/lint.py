"""Static lint of a SavedModel: everything that can be known before anything loads it.

Nothing of the model runs here, and what is read is bounded: first names and sizes of files, then
the graph, then variables and warmup requests. Heavy: imports TensorFlow.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2

from bnpipe.data.plain_file import read_plain
from bnpipe.data.records.tfrecord import DamagedRecordError
from bnpipe.serving.export.signatures import DEFAULT, SIGNATURES, Tensor
from bnpipe.serving.export.warmup import MOST_RECORDS, WARMUP_FILE, read

# Pure computations on tensors, and what any SavedModel needs to hold and restore its variables: no
# Python, no files, no network, no state that outlives a request, nothing compiled on the fly. All
# of them are in TensorFlow Serving 2.21. A network that needs another pure one: add it here.
_PURE = """
    Abs Add AddN AddV2 All Any ArgMax ArgMin AsString Assert AvgPool BatchMatMulV2 BatchMatMulV3
    BiasAdd BroadcastArgs BroadcastTo Cast Ceil ClipByValue Concat ConcatV2 Const Conv2D Cos
    DecodePng DepthwiseConv2dNative DivNoNan Einsum Elu EnsureShape Equal Erf Exp ExpandDims Expm1
    Fill Floor FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 Greater GreaterEqual Identity
    IdentityN If IsFinite IsInf IsNan LeakyRelu Less LessEqual Log Log1p LogSoftmax LogicalAnd
    LogicalNot LogicalOr MatMul Max MaxPool Maximum Mean Min Minimum Mul MulNoNan Neg NoOp NotEqual
    OneHot OnesLike Pack Pad PadV2 ParseExampleV2 PartitionedCall Placeholder Pow PreventGradient
    Prod Range Rank ReadVariableOp RealDiv Reciprocal Relu Relu6 Reshape ReverseV2 Round Rsqrt
    Select SelectV2 Selu Shape Sigmoid Sign Sin Size Slice Softmax Softplus Softsign Split SplitV
    Sqrt Square SquaredDifference Squeeze StatefulPartitionedCall StatelessIf StatelessWhile
    StaticRegexFullMatch StopGradient StridedSlice StringJoin StringLength Sub Substr Sum Tanh
    TensorListFromTensor TensorListGetItem TensorListReserve TensorListSetItem TensorListStack Tile
    TopKV2 Transpose TruncateDiv Unpack VarHandleOp While Xdivy ZerosLike
"""
_WRITING = {"MergeV2Checkpoints", "SaveV2"}  # saving, which no server does
_FILES = {"AssignVariableOp", "DisableCopyOnRead", "RestoreV2", "ShardedFilename"} | _WRITING
_ALLOWED = set(_PURE.split()) | _FILES
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")  # run once, when a model is loaded
_XLA = "_XlaMustCompile"

GRAPH = "saved_model.pb"
MOST_FILE_BYTES = 64 << 20
"""Of each file but the shards of the variables, which are as large as the weights."""
MOST_CONSTANT_BYTES = 4 << 20
"""All constants of a graph together, a number counted as one byte at least."""

_PREFIX = "variables/variables"
_NEEDED = (GRAPH, f"{_PREFIX}.index", WARMUP_FILE)
_SHARD = re.compile(rf"{_PREFIX}\.data-\d{{5}}-of-(\d{{5}})")
_OTHERS = re.compile(r"fingerprint\.pb|variables|assets|assets/.*|assets\.extra", re.DOTALL)
_TYPES = {number: name for name, number in types_pb2.DataType.items()}
# TensorFlow's reader raises Python's own errors for some codes: IndexError for OUT_OF_RANGE.
_UNREADABLE = (tf.errors.OpError, DecodeError, ValueError, LookupError, RuntimeError)

Defects = Iterator[tuple[str, str]]
"""Codes and sentences of findings."""


@dataclass(frozen=True)
class Finding:
    """Something wrong with a SavedModel.

    Attributes:
        code: the kind of defect, for scripts, e.g. `op` or `missing_file`.
        sentence: what was expected and what was received.
    """

    code: str
    sentence: str


def lint(folder: Path) -> list[Finding]:
    """Lists what is wrong with a SavedModel; empty if nothing is.

    Args:
        folder: the version's folder, with `saved_model.pb` at its top.
    """
    try:
        if defects := list(_check_files(folder)):  # a link or a gigabyte is not opened
            return [Finding(*defect) for defect in defects]
        model = saved_model_pb2.SavedModel.FromString(read_plain(folder / GRAPH))
    except DecodeError as error:
        return [Finding("unreadable", f"{GRAPH} is no SavedModel: {error}")]
    except OSError as error:
        where = os.path.relpath(error.filename or folder, folder)
        return [Finding("unreadable", f"{where} cannot be read: {error.strerror}")]
    if len(model.meta_graphs) != 1:
        received = len(model.meta_graphs)
        return [Finding("tags", f"{GRAPH}: expected one graph, received {received}")]
    (graph,) = model.meta_graphs
    tags = list(graph.meta_info_def.tags)
    checks = chain(
        [] if tags == ["serve"] else [("tags", f"tags: expected ['serve'], received {tags}")],
        _check_assets(folder, graph),
        _check_nodes(graph),
        _check_disks(graph),
        _check_calls(graph),
        _check_constants(graph),
        _check_signatures(graph),
        _check_variables(folder, graph),
        _check_warmup(folder, graph),
    )
    return [Finding(*defect) for defect in checks]


def _check_files(folder: Path) -> Defects:
    """Links, unknown, missing and oversized files; no file is opened."""
    folder.stat()  # globbing takes a folder that is not there for an empty one
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        name, status = path.relative_to(folder).as_posix(), path.lstat()
        sizes[name] = status.st_size
        if stat.S_ISLNK(status.st_mode):
            yield "link", f"{name}: expected a plain file, received a symbolic link"
        elif not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            yield "link", f"{name}: expected a plain file, received a device, pipe or socket"
        elif name not in _NEEDED and not _SHARD.fullmatch(name) and not _OTHERS.fullmatch(name):
            yield "unknown_file", f"{name} belongs to no SavedModel that is served here"
    counts = {match[1] for name in sizes if (match := _SHARD.fullmatch(name))} or {"00001"}
    for count in sorted(counts):
        shards = (f"{_PREFIX}.data-{n:05}-of-{count}" for n in range(int(count)))
        for name in islice((shard for shard in shards if shard not in sizes), 1):
            yield "missing_file", f"{name} is missing"
    for name in _NEEDED:
        size = sizes.get(name, 0)
        if not size:
            yield "missing_file", f"{name} is missing or empty"
        elif size > MOST_FILE_BYTES:
            yield "too_large", f"{name}: expected at most {MOST_FILE_BYTES} bytes, received {size}"


def _check_assets(folder: Path, graph: Any) -> Defects:
    """Asset files are named by the graph, lie in `assets/`, and no others do."""
    named = set()
    for asset in graph.asset_file_def:
        path = PurePosixPath("assets", asset.filename)
        named.add(str(path))
        if path.is_absolute() or ".." in path.parts:
            yield "path", f"asset {asset.filename}: expected a name in assets/"
        elif not (folder / path).is_file():
            yield "missing_file", f"{path} is missing"
    present = {p.relative_to(folder).as_posix() for p in (folder / "assets").rglob("*")}
    for name in sorted(present - named):
        yield "unknown_file", f"{name} is named nowhere in the graph"


def _functions(graph: Any) -> dict[str, Any]:
    """The nodes of each function, by its name."""
    return {f.signature.name: f.node_def for f in graph.graph_def.library.function}


def _bodies(graph: Any) -> list[tuple[str, Any]]:
    """The nodes of the graph itself and of each of its functions."""
    return [("the graph", graph.graph_def.node), *_functions(graph).items()]


def _called(nodes: Iterable[Any]) -> set[str]:
    """Names of the functions that nodes call."""
    values = [value for node in nodes for value in node.attr.values()]
    return {f.name for value in values for f in (value.func, *value.list.func) if f.name}


def _node_of(tensor: str) -> str:
    """The node that a tensor (`name:0`) or a control input (`^name`) comes from."""
    return tensor.removeprefix("^").partition(":")[0]


def _reachable(starts: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    """The names that edges lead to from some names, with these."""
    waiting, reached = list(starts), set[str]()
    while waiting:
        name = waiting.pop()
        if name in edges and name not in reached:
            reached.add(name)
            waiting.extend(edges[name])
    return reached


def _check_nodes(graph: Any) -> Defects:
    """Operations of the list, for the processor, and nothing that XLA must compile."""
    attributes = [(f.signature.name, f.attr) for f in graph.graph_def.library.function]
    for where, nodes in _bodies(graph):
        for op in sorted({node.op for node in nodes} - _ALLOWED):
            python = "calls Python; a server has none"
            reason = python if op in _PYTHON else "is not on the list of serving/lint.py"
            yield "op", f"{where} has {op}, which {reason}"
        for node in nodes:
            attributes.append((f"{where}: {node.name}", node.attr))
            if node.device not in ("", "/device:CPU:0", "/device:CPU:*"):
                yield "device", f"{where}: {node.name} is tied to the device {node.device}"
    for where, attribute in attributes:
        if _XLA in attribute and attribute[_XLA].b:
            yield "xla", f"{where} must be compiled by XLA, which a server does not do"


def _check_disks(graph: Any) -> Defects:
    """Variables are restored when the model is loaded; all else that a server runs is pure."""
    functions = _functions(graph)
    calls = {name: _called(nodes) for name, nodes in functions.items()}
    nodes = {node.name: node for node in graph.graph_def.node}
    inputs = {name: [_node_of(tensor) for tensor in node.input] for name, node in nodes.items()}
    asked = [info.name for s in graph.signature_def.values() for info in s.outputs.values()]
    for collection in _INIT_COLLECTIONS:
        asked += graph.collection_def[collection].node_list.value
    restored = [graph.saver_def.restore_op_name]
    for tensors, forbidden, text in (
        (asked, _FILES, "answers requests and has {}, which changes or reads disks"),
        (restored, _WRITING, "restores variables and has {}, which writes to disks"),
    ):
        top = [nodes[name] for name in _reachable(map(_node_of, tensors), inputs)]
        names = sorted(_reachable(_called(top), calls))
        for where, body in (("the graph", top), *((name, functions[name]) for name in names)):
            for op in sorted({node.op for node in body} & forbidden):
                yield "op", f"{where} {text.format(op)}"


def _check_calls(graph: Any) -> Defects:
    """Functions that are called are there, and none would never end."""
    calls = {name: _called(nodes) for name, nodes in _functions(graph).items()}
    for where, nodes in _bodies(graph):
        for name in sorted(_called(nodes) - calls.keys()):
            yield "function", f"{where} calls {name}, which is missing"
    for name, direct in calls.items():
        if name in _reachable(direct, calls):
            yield "function", f"{name} calls itself: it would never end"


def _check_constants(graph: Any) -> Defects:
    """Sizes as declared, for one stored value may stand for any number of them; fixed paths."""
    total = 0
    for where, nodes in _bodies(graph):
        has_files = any(node.op in _FILES for node in nodes)
        for node in (node for node in nodes if node.op == "Const"):
            tensor = node.attr["value"].tensor
            count = math.prod(max(dim.size, 0) for dim in tensor.tensor_shape.dim)
            total += max(count, tensor.ByteSize())
            for text in tensor.string_val if has_files else ():
                if text.startswith(b"/") or b"://" in text or b".." in text.split(b"/"):
                    path = text.decode(errors="replace")
                    yield "path", f"{where}: {node.name} names the file {path}"
    if total > MOST_CONSTANT_BYTES:
        received = f"expected at most {MOST_CONSTANT_BYTES} bytes, received at least {total}"
        yield "too_large", f"constants: {received}; weights belong into variables"


def _check_signatures(graph: Any) -> Defects:
    """Signatures that are missing, unknown, or not what clients send and expect."""
    present = set(graph.signature_def) - {"__saved_model_init_op"}
    for name in sorted(present ^ SIGNATURES.keys()):
        defect = "is missing" if name in SIGNATURES else "is none that clients know"
        yield "signature", f"signature {name} {defect}"
    nodes = {node.name for node in graph.graph_def.node}
    sizes: dict[str, set[int]] = defaultdict(set)
    for name in (name for name in SIGNATURES if name in present):
        for side in ("inputs", "outputs"):
            expected, received = (getattr(s[name], side) for s in (SIGNATURES, graph.signature_def))
            yield from _check_tensors(f"signature {name} {side}", expected, received, nodes, sizes)
    for letter, values in sizes.items():
        if len(values) > 1:
            yield "signature", f"signatures disagree on {letter}: {sorted(values)}"
    features, height, width = (min(sizes[letter], default=0) for letter in "DHW")
    if features and height and features != height * width:
        yield "signature", f"images of {height} x {width} pixels do not have {features} features"


def _check_tensors(
    where: str,
    expected: Mapping[str, Tensor],
    received: Mapping[str, Any],
    nodes: set[str],
    sizes: dict[str, set[int]],
) -> Defects:
    """Inputs or outputs of a signature; notes their sizes by the table's letters."""
    if set(received) != set(expected):
        yield "signature", f"{where} expected {sorted(expected)}, received {sorted(received)}"
        return
    for name, tensor in expected.items():
        info = received[name]
        dtype, wanted = info.dtype, tf.as_dtype(tensor.dtype).as_datatype_enum
        if dtype != wanted:
            types = f"expected {_TYPES[wanted]}, received {_TYPES.get(dtype, dtype)}"
            yield "signature", f"{where} {name} {types}"
        dims = [dim.size for dim in info.tensor_shape.dim]
        if len(dims) == 1 + len(tensor.sizes) and dims[0] == -1 and min(dims[1:], default=1) > 0:
            for letter, size in zip(tensor.sizes, dims[1:], strict=True):
                sizes[letter].add(size)
        else:
            shape = ", ".join(("-1", *tensor.sizes))
            yield "signature", f"{where} {name} expected the shape [{shape}], received {dims}"
        if _node_of(info.name) not in nodes:
            yield "signature", f"{where} {name} is {info.name}, which the graph does not have"


def _check_variables(folder: Path, graph: Any) -> Defects:
    """Index and shards agree in number, size and checksum; the graph's variables are there.

    TensorFlow Serving itself loads a graph without its variables, calls it available, and fails
    every request.
    """
    try:
        yield from _variables(folder, graph)
    except _UNREADABLE as error:
        text = getattr(error, "message", str(error)).replace(f"{folder}/", "") or repr(error)
        yield "variable", f"{_PREFIX} cannot be read: {text.splitlines()[0]}"


def _variables(folder: Path, graph: Any) -> Defects:
    reader = tf.train.load_checkpoint(str(folder / _PREFIX))
    types, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    numbers = [name for name in shapes if types[name] != tf.string]
    declared = sum(types[name].size * math.prod(shapes[name]) for name in numbers)
    stored = sum(p.stat().st_size for p in (folder / "variables").glob("variables.data-*"))
    if declared > stored:  # before memory for them is asked for
        text = f"the index declares {declared} bytes, the shards hold {stored}"
        yield "variable", f"{_PREFIX}: {text}"
        return
    for name in sorted(shapes):
        reader.get_tensor(name)  # reads to the end, and compares the checksum
    # The checkpoint numbers its objects as the graph does.
    message = reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")
    objects = trackable_object_graph_pb2.TrackableObjectGraph.FromString(message).nodes
    for number, node in enumerate(graph.object_graph_def.nodes):
        if node.WhichOneof("kind") != "variable":
            continue
        attributes = objects[number].attributes if number < len(objects) else ()
        keys = [a.checkpoint_key for a in attributes if a.name == "VARIABLE_VALUE"]
        if not keys or keys[0] not in shapes:
            yield "variable", f"{node.variable.name} has no value in {_PREFIX}"
            continue
        expected, received = [dim.size for dim in node.variable.shape.dim], shapes[keys[0]]
        dtype = types[keys[0]]
        if received != expected or dtype.as_datatype_enum != node.variable.dtype:
            text = f"expected the shape {expected}, received {received} of {dtype.name}"
            yield "variable", f"{node.variable.name}: {text}"


def _check_warmup(folder: Path, graph: Any) -> Defects:
    """Requests that a server would refuse the version for; signatures that none warms up."""
    try:
        logs = list(islice(read(folder / WARMUP_FILE), MOST_RECORDS + 1))
    except (DamagedRecordError, DecodeError) as error:
        yield "warmup", f"{WARMUP_FILE}: {error}"
        return
    if not 1 <= len(logs) <= MOST_RECORDS:
        count = f"more than {MOST_RECORDS}" if logs else "none"
        text = f"expected 1 to {MOST_RECORDS} records, received {count}"
        yield "warmup", f"{WARMUP_FILE}: {text}"
        return
    warm = set()
    for number, log in enumerate(logs):
        where, kind = f"{WARMUP_FILE}: record {number}", log.WhichOneof("log_type")
        if kind not in ("predict_log", "classify_log", "regress_log"):
            text = f"is a {kind or 'record without a request'}, which no server warms up with"
            yield "warmup", f"{where} {text}"
            continue
        request = getattr(log, kind).request
        name = request.model_spec.signature_name or DEFAULT
        warm.add(name)
        if name not in graph.signature_def:
            text = f"asks for the signature {name}, which the model does not have"
            yield "warmup", f"{where} {text}"
        elif kind == "predict_log":
            expected = {k: info.dtype for k, info in graph.signature_def[name].inputs.items()}
            received = {k: tensor.dtype for k, tensor in request.inputs.items()}
            if received != expected:
                text = f"expected {sorted(expected)}, received {sorted(received)}"
                yield "warmup", f"{where} does not fit {name}: {text}"
    if cold := sorted(SIGNATURES.keys() - warm):
        yield "warmup", f"{WARMUP_FILE} warms up no {', '.join(cold)}"
