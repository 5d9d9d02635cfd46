"""The lint names every defect of a SavedModel, and nothing makes it fail itself."""

import json
import os
import random
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.records.tfrecord import frame
from bnpipe.serving.export import warmup
from bnpipe.serving.lint import MOST_FILE_BYTES, lint
from tests.components.infra_validator.candidates import export

WARMUP = warmup.WARMUP_FILE
SHARD = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tmp_path_factory.mktemp("lint") / "saved_model")


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "1")


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Changes the graph."""
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    change(model.meta_graphs[0])
    path.write_bytes(model.SerializeToString())


def function(graph: Any, name: str) -> Any:
    """A function by the start of its name."""
    (found,) = (f for f in graph.graph_def.library.function if f.signature.name.startswith(name))
    return found


def node(nodes: Any, op: str) -> Any:
    return next(n for n in nodes if n.op == op)


def records(folder: Path, logs: list[Any]) -> None:
    """Replaces the warmup requests."""
    rows = [np.frombuffer(log.SerializeToString(), np.uint8) for log in logs]
    (folder / WARMUP).write_bytes(b"".join(frame(row[None]).tobytes() for row in rows))


def defects(folder: Path) -> str:
    return "\n".join(f"{f.code}: {f.sentence}" for f in lint(folder))


def test_an_export_is_clean(folder: Path) -> None:
    assert lint(folder) == []


def test_findings_are_plain_values(folder: Path) -> None:
    (folder / "model.tflite").touch()
    (found,) = lint(folder)
    assert json.loads(json.dumps(asdict(found))) == {
        "code": "unknown_file",
        "sentence": "model.tflite belongs to no SavedModel that is served here",
    }


def replace_by_link(folder: Path) -> None:
    (folder / SHARD).rename(folder.parent / "shard")
    (folder / SHARD).symlink_to(folder.parent / "shard")


def replace_folder_by_link(folder: Path) -> None:
    (folder / "variables").rename(folder.parent / "variables")
    (folder / "variables").symlink_to(folder.parent / "variables")


def flip(folder: Path, name: str, at: int) -> None:
    content = bytearray((folder / name).read_bytes())
    content[at] ^= 1
    (folder / name).write_bytes(content)


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "link": (replace_by_link, "link: variables/variables.data-.*symbolic link"),
    "linked folder": (replace_folder_by_link, "link: variables: .*symbolic link"),
    "pipe": (lambda f: os.mkfifo(f / "assets.extra/x"), "link: assets.extra/x: .*pipe"),
    "hidden folder": (lambda f: (f / ".git").mkdir(), "unknown_file: .git"),
    "unnamed asset": (
        lambda f: [(f / "assets").mkdir(exist_ok=True), (f / "assets/v.txt").write_text("a")],
        "unknown_file: assets/v.txt is named nowhere",
    ),
    "no graph": (lambda f: (f / "saved_model.pb").unlink(), "missing_file: saved_model.pb"),
    "no index": (
        lambda f: (f / "variables/variables.index").unlink(),
        "missing_file: variables/variables.index",
    ),
    "no variables": (lambda f: shutil.rmtree(f / "variables"), "missing_file: variables/"),
    "no shard": (lambda f: (f / SHARD).unlink(), "missing_file: variables/variables.data"),
    "second shard missing": (
        lambda f: (f / SHARD).rename(f / "variables/variables.data-00000-of-00002"),
        "missing_file: variables/variables.data-00001-of-00002",
    ),
    "cut shard": (lambda f: os.truncate(f / SHARD, 100), "variable: .*index declares"),
    "flipped weight": (lambda f: flip(f, SHARD, 40), "variable: .*[Cc]hecksum"),
    "flipped index": (
        lambda f: flip(f, "variables/variables.index", 30),
        "variable: variables/variables cannot be read",
    ),
    "endless graph": (
        lambda f: os.truncate(f / "saved_model.pb", MOST_FILE_BYTES + 1),
        "too_large: saved_model.pb: expected at most",
    ),
    "no protobuf": (
        lambda f: (f / "saved_model.pb").write_bytes(b"\xff" * 99),
        "unreadable: saved_model.pb is no SavedModel",
    ),
    "no warmup": (lambda f: (f / WARMUP).unlink(), "missing_file: assets.extra/tf_serving_warmup"),
    "cut warmup": (lambda f: os.truncate(f / WARMUP, 50), "warmup: .*cut|warmup: .*end"),
    "flipped warmup": (lambda f: flip(f, WARMUP, 20), "warmup: .*corrupted record"),
}


@pytest.mark.parametrize(("damage", "expected"), FILES.values(), ids=list(FILES))
def test_files_that_are_not_as_they_must_be(
    folder: Path, damage: Callable[[Path], object], expected: str
) -> None:
    damage(folder)
    assert re.search(expected, defects(folder)), defects(folder)


def test_a_folder_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    assert "unreadable" in defects(tmp_path / "none")


def add_op(op: str, where: str = "__inference_serving_default") -> Callable[[Any], object]:
    return lambda graph: function(graph, where).node_def.add(name="extra", op=op)


def large_constant(graph: Any) -> None:
    """One stored number that stands for four gigabytes."""
    constant = graph.graph_def.node.add(name="bomb", op="Const")
    tensor = constant.attr["value"].tensor
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.float_val.append(1.0)
    tensor.tensor_shape.dim.add(size=1 << 15)
    tensor.tensor_shape.dim.add(size=1 << 15)


def fixed_path(graph: Any) -> None:
    restore = function(graph, "__inference__traced_restore")
    constant = restore.node_def.add(name="prefix", op="Const")
    constant.attr["value"].tensor.dtype = types_pb2.DT_STRING
    constant.attr["value"].tensor.string_val.append(b"/models/other/variables")


def write_file(graph: Any, before: str) -> None:
    """A node of the graph itself that writes a file before another node is run."""
    graph.graph_def.node.add(name="write", op="SaveV2")
    for found in graph.graph_def.node:
        if found.name == before.partition(":")[0]:
            found.input.append("^write")


def write_when_asked(graph: Any) -> None:
    write_file(graph, graph.signature_def["classify"].outputs["scores"].name)


def write_when_initialized(graph: Any) -> None:
    write_file(graph, "")
    graph.collection_def["legacy_init_op"].node_list.value.append("write")


def write_when_restored(graph: Any) -> None:
    write_file(graph, graph.saver_def.restore_op_name)


def call_itself(graph: Any) -> None:
    body = function(graph, "__inference_serving_default")
    call = body.node_def.add(name="again", op="StatefulPartitionedCall")
    call.attr["f"].func.name = body.signature.name


def set_size(dim: Any, size: int) -> None:
    dim.size = size


GRAPHS: dict[str, tuple[Callable[[Any], object], str]] = {
    "python": (add_op("PyFunc"), "op: .*PyFunc, which calls Python"),
    "file": (add_op("ReadFile"), "op: .*ReadFile, which is not on the list"),
    "unknown": (add_op("MyOwnOp", "__inference_classify"), "op: .*classify.*MyOwnOp"),
    "outside of functions": (
        lambda g: g.graph_def.node.add(name="x", op="DebugIdentityV2"),
        "op: the graph has DebugIdentityV2",
    ),
    "assignment": (add_op("AssignVariableOp"), "op: .*answers requests and has AssignVariableOp"),
    "saving": (add_op("SaveV2", "map_while_body"), "op: map_while_body.*SaveV2"),
    "writing when asked": (write_when_asked, "op: the graph answers requests and has SaveV2"),
    "writing at the start": (write_when_initialized, "op: the graph answers requests and has S"),
    "writing when restored": (write_when_restored, "op: the graph restores variables and has S"),
    "saving while restoring": (
        add_op("MergeV2Checkpoints", "__inference__traced_restore"),
        "op: __inference__traced_restore.* restores variables and has MergeV2Checkpoints",
    ),
    "xla": (
        lambda g: g.graph_def.node[-1].attr["_XlaMustCompile"].CopyFrom(_true()),
        "xla: .*must be compiled",
    ),
    "xla function": (
        lambda g: function(g, "__inference_classify").attr["_XlaMustCompile"].CopyFrom(_true()),
        "xla: __inference_classify",
    ),
    "device": (
        lambda g: setattr(g.graph_def.node[0], "device", "/device:GPU:0"),
        "device: .*tied to the device /device:GPU:0",
    ),
    "constant": (large_constant, "too_large: constants: .*weights belong into variables"),
    "path": (fixed_path, "path: .*names the file /models/other/variables"),
    "absolute asset": (
        lambda g: g.asset_file_def.add(filename="/etc/passwd"),
        "path: asset /etc/passwd",
    ),
    "asset above": (lambda g: g.asset_file_def.add(filename="../x"), "path: asset ../x"),
    "asset missing": (lambda g: g.asset_file_def.add(filename="v.txt"), "missing_file: assets/v"),
    "recursion": (call_itself, "function: __inference_serving_default.*calls itself"),
    "function missing": (
        lambda g: function(g, "__inference_signature_wrapper_0").signature.MergeFrom(
            type(g.graph_def.library.function[0].signature)(name="elsewhere")
        ),
        "function: .*calls __inference_signature_wrapper_0, which is missing",
    ),
    "tags": (lambda g: g.meta_info_def.tags.append("gpu"), "tags: tags: expected .*serve.*gpu"),
    "signature missing": (
        lambda g: g.signature_def.pop("serve_png"),
        "signature: signature serve_png is missing",
    ),
    "signature unknown": (
        lambda g: g.signature_def["debug"].CopyFrom(g.signature_def["classify"]),
        "signature: signature debug is none that clients know",
    ),
    "input renamed": (
        lambda g: (
            g.signature_def["serve_images"]
            .inputs["x"]
            .CopyFrom(g.signature_def["serve_images"].inputs.pop("images"))
        ),
        r"serve_images inputs expected \['images'\], received \['x'\]",
    ),
    "dtype": (
        lambda g: setattr(
            g.signature_def["serving_default"].outputs["class_id"], "dtype", types_pb2.DT_INT32
        ),
        "class_id expected DT_INT64, received DT_INT32",
    ),
    "fixed batch": (
        lambda g: set_size(g.signature_def["classify"].outputs["classes"].tensor_shape.dim[0], 4),
        r"classes expected the shape \[-1, K\], received \[4, 4\]",
    ),
    "scalar": (
        lambda g: g.signature_def["serving_default"].outputs["class_id"].tensor_shape.Clear(),
        r"class_id expected the shape \[-1\], received \[\]",
    ),
    "disagreement": (
        lambda g: set_size(g.signature_def["serve_images"].inputs["images"].tensor_shape.dim[1], 7),
        "images of 7 x 5 pixels do not have 30 features",
    ),
    "dangling": (
        lambda g: setattr(g.signature_def["classify"].inputs["inputs"], "name", "gone:0"),
        "inputs is gone:0, which the graph does not have",
    ),
    "variable shape": (
        lambda g: set_size(_variable(g).shape.dim[0], 31),
        r"variable: .*expected the shape \[31, 8\], received \[30, 8\]",
    ),
    "variable without value": (
        lambda g: g.object_graph_def.nodes.add().variable.MergeFrom(_variable(g)),
        "variable: .*has no value",
    ),
}


def _true() -> Any:
    from tensorflow.core.framework import attr_value_pb2

    return attr_value_pb2.AttrValue(b=True)


def _variable(graph: Any) -> Any:
    return next(
        n.variable
        for n in graph.object_graph_def.nodes
        if n.WhichOneof("kind") == "variable" and len(n.variable.shape.dim) == 2
    )


@pytest.mark.parametrize(("change", "expected"), GRAPHS.values(), ids=list(GRAPHS))
def test_graphs_that_are_not_served(
    folder: Path, change: Callable[[Any], object], expected: str
) -> None:
    edit(folder, change)
    assert re.search(expected, defects(folder)), defects(folder)


def test_two_graphs_are_one_too_many(folder: Path) -> None:
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    model.meta_graphs.add()
    path.write_bytes(model.SerializeToString())
    assert defects(folder) == "tags: saved_model.pb: expected one graph, received 2"


def predict_log(signature: str, key: str = "features", dtype: int = types_pb2.DT_FLOAT) -> Any:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    log.predict_log.request.inputs[key].dtype = dtype
    return log


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ([], "missing or empty"),
        ([predict_log("serving_default")] * 1001, "1 to 1000 records, received more than 1000"),
        ([predict_log("nope")], "record 0 asks for the signature nope"),
        ([predict_log("serving_default", "x")], r"expected \['features'\], received \['x'\]"),
        ([predict_log("serving_default", dtype=types_pb2.DT_INT64)], "does not fit"),
        ([prediction_log_pb2.PredictionLog()], "record without a request"),
        ([predict_log("serving_default")], "warms up no classify, probabilities_only, serve_im"),
    ],
    ids=["none", "1001", "signature", "input", "dtype", "empty", "cold"],
)
def test_warmup_requests_that_a_server_refuses(
    folder: Path, logs: list[Any], expected: str
) -> None:
    records(folder, logs)
    assert re.search(expected, defects(folder)), defects(folder)


def test_damaged_bytes_are_findings_or_harmless_never_exceptions(folder: Path) -> None:
    dice = random.Random(7)
    names = ("saved_model.pb", "variables/variables.index", SHARD, WARMUP)
    whole = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        for _ in range(25):
            content = bytearray(whole[name])
            for _ in range(dice.randint(1, 4)):
                content[dice.randrange(len(content))] = dice.randrange(256)
            (folder / name).write_bytes(content[: dice.choice((None, -1, len(content) // 2))])
            lint(folder)
        (folder / name).write_bytes(whole[name])
    assert lint(folder) == []
