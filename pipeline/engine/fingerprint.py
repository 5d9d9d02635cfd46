"""The parts of a step's key (`key_parts`), and the digests of code.

The code digest covers the first-party import closure of the component's module, as an AST without
comments and docstrings: a reworded comment reruns nothing, a changed helper reruns what uses it.
Absolute imports only (ruff bans the others), function-level ones included; what a step imports by
name it declares in `Component.uses`.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bnpipe.components.base import Component, key_params
from bnpipe.data.digest import file_sha256
from bnpipe.data.durable import replace_text
from bnpipe.data.environment import environment
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import read_plain

ROOT = Path(__file__).resolve().parents[2]
FIRST_PARTY = ("bnpipe.components", "bnpipe.serving", "bnpipe.data")
# The memo's keys cover this file: another way of digesting is another entry.
_MADE_BY = Path(__file__).read_bytes()


def canonical(value: Any) -> str:
    """JSON text that is the same for equal values."""
    return json_text(value, sort_keys=True, separators=(",", ":"), default=list)


def digest_of(value: Any) -> str:
    """sha256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def key_parts(
    component: Component[Any, Any, Any],
    params: Any,
    inputs: Mapping[str, str | None],
    outside: Mapping[str, str],
    code: CodeDigests,
) -> dict[str, Any]:
    """All that can change what a step gives, by part; its key is `digest_of` them.

    Args:
        component: the step's component; its code and the data files that it declares are hashed.
        params: its parameters; those that are local to the machine do not count.
        inputs: digest by input field; None for an optional input that is not there.
        outside: what the component's probe names.
        code: reads the code.
    """
    return {
        "component": component.name,
        "code": code.of(component),
        "params": key_params(params),
        "inputs": dict(inputs),
        "outside": outside,
        "files": {name: file_sha256(code.path(name)) for name in component.data_files},
        "environment": environment(),
    }


class CodeDigests:
    """Digests of modules and of their import closures.

    Args:
        root: the folder that holds the first-party packages; `bnpipe.data` is `data` in it. By
            default each package lies where it is imported from.
        memo: a JSON file that remembers digests by the sha256 of the source text, so that `plan`
            parses only what was edited; it may be deleted at any time.
    """

    def __init__(self, root: Path | None = None, memo: Path | None = None) -> None:
        self._root = root
        self._memo_file = memo
        self._memo: dict[str, tuple[str, list[str]]] = {}
        self._closures: dict[tuple[str, ...], dict[str, str]] = {}
        self._modules: dict[str, tuple[str, list[str]] | None] = {}
        self._dirty = False
        if memo is not None:
            # Not there, or half-written by a kill: only time is lost.
            with suppress(OSError, ValueError, TypeError, AttributeError):
                self._memo = {k: (d, i) for k, (d, i) in json.loads(read_plain(memo)).items()}

    def of(self, component: Component[Any, Any, Any]) -> dict[str, str]:
        """Digest by module name of all code that a component runs."""
        return self.closure([component.module, *component.uses])

    def closure(self, modules: Iterable[str]) -> dict[str, str]:
        """Digest by module name, of the given modules and all first-party code they import.

        Files are read once per instance; `again` reads them anew.
        """
        asked = tuple(modules)
        if asked not in self._closures:
            self._closures[asked] = self._closure(asked)
        return self._closures[asked]

    def again(self) -> CodeDigests:
        """An instance that reads every file anew, and parses only those that were edited."""
        fresh = CodeDigests(root=self._root)
        fresh._memo = self._memo
        return fresh

    def _closure(self, modules: tuple[str, ...]) -> dict[str, str]:
        digests: dict[str, str] = {}
        waiting = list(modules)
        while waiting:
            name = waiting.pop()
            if name in digests or (module := self._module(name)) is None:
                continue
            digests[name], imports = module
            waiting.extend(imports)
            if name.count(".") > 1:  # importing a.b runs a/__init__.py first; bnpipe has none
                waiting.append(name.rpartition(".")[0])
        return dict(sorted(digests.items()))

    def save(self) -> None:
        """Write the memo, if something new was parsed and there is room for it."""
        if self._dirty and self._memo_file is not None and self._memo_file.parent.is_dir():
            with suppress(OSError):
                replace_text(self._memo_file, json_text(self._memo), durable=False)

    def path(self, name: str) -> Path:
        """A file or folder by its path in the repository, e.g. `data/statistics/schema.pbtxt`."""
        room, _, rest = name.partition("/")
        if self._root is None and f"bnpipe.{room}" in FIRST_PARTY:
            return _folder(room) / rest
        return (self._root or ROOT) / name

    def _module(self, name: str) -> tuple[str, list[str]] | None:
        """A module's digest and the first-party names it imports; None if there is no such one."""
        if name not in self._modules:
            self._modules[name] = self._read(self.path(name.partition(".")[2].replace(".", "/")))
        return self._modules[name]

    def _read(self, base: Path) -> tuple[str, list[str]] | None:
        for source in (base.with_suffix(".py"), base / "__init__.py"):
            if source.is_file():
                text = source.read_bytes()
                by_text = hashlib.sha256(_MADE_BY + text).hexdigest()
                if by_text not in self._memo:
                    self._memo[by_text] = _parsed(text)
                    self._dirty = True
                return self._memo[by_text]
        return None


@functools.cache
def _folder(room: str) -> Path:
    """The folder that `bnpipe.<room>` is imported from; one below ROOT may be hidden by another."""
    spec = importlib.util.find_spec(f"bnpipe.{room}")
    assert spec is not None and spec.submodule_search_locations, room
    return Path(spec.submodule_search_locations[0])


@functools.cache
def _parsed(text: bytes) -> tuple[str, list[str]]:
    """A source text's digest and the first-party names it imports.

    The digest is of the syntax tree without docstrings, as text that is the same under every
    Python: what `ast.dump` of 3.11 gives. Since 3.12 functions and classes list their type
    parameters, of which code that 3.11 can read has none, and texts in f-strings come in other
    pieces; since 3.13 empty lists are left out.
    """
    tree = ast.parse(text)
    imports: set[str] = set()
    for node in ast.walk(tree):  # once: a run in a new home waits for this
        match node:
            case ast.Import():
                imports.update(alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                imports.add(module)
                imports.update(f"{module}.{alias.name}" for alias in node.names)
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                # A string expression is a docstring, of the thing or of the attribute above it.
                node.body = [s for s in node.body if not _is_text(s)]
                if not getattr(node, "type_params", True):
                    del node.type_params  # type: ignore[union-attr]
            case ast.JoinedStr():
                node.values = _joined(node.values)
    if sys.version_info >= (3, 13):
        dumped = ast.dump(tree, show_empty=True)
    else:
        dumped = ast.dump(tree)
    ours = (name for name in imports if ".".join(name.split(".")[:2]) in FIRST_PARTY)
    return hashlib.sha256(dumped.encode()).hexdigest(), sorted(ours)


def _joined(values: Iterable[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, with texts that follow one another as one, and none empty."""
    joined: list[ast.expr] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            joined.append(value)
        elif joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(str(joined[-1].value) + str(value.value))
        elif value.value:
            joined.append(value)
    return joined


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def flat(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as dotted names and texts."""
    if isinstance(value, Mapping):
        inner: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        inner = enumerate(value)
    else:
        yield prefix, "-" if value is None else str(value)
        return
    for key, each in inner:
        yield from flat(each, f"{prefix}.{key}" if prefix else str(key))


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted name and both values of all that differs between two flat or nested mappings.

    None stands for a value where there is none.
    """
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{prefix}{name}.")
        elif canonical(old) != canonical(new):
            yield f"{prefix}{name}", old, new
