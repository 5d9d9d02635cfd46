"""Makes a SavedModel's bytes depend on the model alone.

TensorFlow names the functions of a graph by a counter of the process, so the same export after
other work gives other names, in another order. Here they get numbers of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from tensorflow.core.protobuf import saved_model_pb2

_COUNTED = re.compile(r"(?P<base>.+)_(?P<count>\d+)")
_USER_NAME = "_user_specified_name"


def make_canonical(folder: Path) -> None:
    """Rewrites `saved_model.pb` with function names and an order that do not depend on the process.

    `fingerprint.pb`, which holds a random id and checksums of the old bytes, is removed: TensorFlow
    and TF Serving do without.
    """
    path = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in model.meta_graphs:
        functions = meta_graph.graph_def.library.function
        _rename(meta_graph, _Renaming([function.signature.name for function in functions]))
        functions.sort(key=lambda function: function.signature.name)
        for function in functions:
            _drop_captured_ids(function)
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
            for base, found in counts.items()
            for index, count in enumerate(sorted(found))
        }
        # Inside a name too: the placeholders of a loop are named after the loop's function.
        longest_first = sorted(self._names, key=len, reverse=True)
        self._pattern = re.compile(f"({'|'.join(map(re.escape, longest_first))})(?![0-9])")

    def __call__(self, text: str) -> str:
        return self._pattern.sub(lambda match: self._names[match[1]], text)


def _drop_captured_ids(function: Any) -> None:
    """Removes the names of captured tensors: TensorFlow writes the ids of Python objects there."""
    nodes = [node.attr for node in function.node_def]
    arguments = [argument.attr for argument in function.arg_attr.values()]
    for attributes in nodes + arguments:
        if _USER_NAME in attributes and attributes[_USER_NAME].s.isdigit():
            del attributes[_USER_NAME]


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
