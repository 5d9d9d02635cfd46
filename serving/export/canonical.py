"""Makes a SavedModel's bytes depend on the model alone.

TensorFlow names the functions of a graph by a counter of the process and notes its number of
threads, so the same export after other work, or on another machine, gives other names in another
order. Here functions get numbers of their own, and notes of the process are dropped.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

from bnpipe.data.plain_file import read_plain

_COUNTED = re.compile(r"(?P<base>.+)_(?P<count>\d+)")
_USER_NAME = "_user_specified_name"
_CONFIG = "config_proto"


def make_canonical(folder: Path) -> None:
    """Rewrites `saved_model.pb` with function names and an order that do not depend on the process.

    `fingerprint.pb`, which holds a random id and checksums of the old bytes, is removed: TensorFlow
    and TF Serving do without.
    """
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(read_plain(path))
    for meta_graph in model.meta_graphs:
        functions = meta_graph.graph_def.library.function
        _rename(meta_graph, _Renaming([function.signature.name for function in functions]))
        functions.sort(key=lambda function: function.signature.name)
        for function in functions:
            _drop_traces_of_the_process(function.node_def, function.arg_attr.values())
        _drop_traces_of_the_process(meta_graph.graph_def.node, ())
    path.write_bytes(model.SerializeToString(deterministic=True))
    (folder / "fingerprint.pb").unlink(missing_ok=True)


class _Renaming:
    """New names of functions: for each the counter restarts at 0, in order of tracing."""

    def __init__(self, names: list[str]) -> None:
        counts = defaultdict(list)
        for name in names:
            if match := _COUNTED.fullmatch(name):
                counts[match["base"]].append(int(match["count"]))
        self._names = {
            f"{base}_{count}": f"{base}_{index}"
            for base, numbers in counts.items()
            for index, count in enumerate(sorted(numbers))
        }
        # Inside a name too: the placeholders of a loop are named after the loop's function.
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})(?![0-9])")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._names[match[1]], text)


def _drop_traces_of_the_process(nodes: Iterable[Any], arguments: Iterable[Any]) -> None:
    """Removes the ids and settings of the exporting process from nodes and function arguments."""
    for part in (*nodes, *arguments):
        # A captured tensor has the id of a Python object for a name.
        if _USER_NAME in part.attr and part.attr[_USER_NAME].s.isdigit():
            del part.attr[_USER_NAME]
        # Calls carry the number of threads and of GPUs.
        if _CONFIG in part.attr:
            part.attr[_CONFIG].s = b""


def _rename(message: Any, renamed: _Renaming) -> None:
    """Renames functions in every text field and map key of a message, in place."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _rename_map(field, value, renamed)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else [value]:
                _rename(part, renamed)
        elif field.type == field.TYPE_STRING and field.is_repeated:
            value[:] = [renamed(item) for item in value]
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, renamed(value))


def _rename_map(field: Any, entries: Any, renamed: _Renaming) -> None:
    holds_messages = field.message_type.fields_by_name["value"].message_type is not None
    for key in list(entries):
        if holds_messages:
            _rename(entries[key], renamed)
        elif isinstance(entries[key], str):
            entries[key] = renamed(entries[key])
        if not isinstance(key, str) or renamed(key) == key:
            continue
        if holds_messages:
            entries[renamed(key)].CopyFrom(entries[key])
        else:
            entries[renamed(key)] = entries[key]
        del entries[key]
