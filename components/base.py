"""A component: four names in one module, and one `COMPONENT = Component(...)` line.

A step module declares frozen dataclasses `Inputs`, `Outputs` and `Params`, and a plain
`run(inputs, outputs, params, ctx) -> Facts`. There is nothing to inherit and nothing to register:
`Graph.add` takes the `Component` value and returns its `Outputs`, so mypy checks the wiring.
A gate decides by rules or checks, and each of them gives a `Ruling`, in the same words everywhere.
This module uses the standard library only, like everything that `bnpipe --help` imports.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

from bnpipe.data.errors import DataError
from bnpipe.data.json_text import plain

Facts = Mapping[str, "float | int | str | bool | None"]
"""A step's account of itself: a flat dict of numbers and texts. Not part of any digest."""

I = TypeVar("I")  # noqa: E741 - Inputs, Outputs, Params
O = TypeVar("O")  # noqa: E741
P = TypeVar("P")


def machine_local(default: Any) -> Any:
    """A `Params` field that says where or how on this machine, never what: not in step keys."""
    return field(default=default, metadata={"in_key": False})


def configured_as(key: str, default: Any, *, in_key: bool = True) -> Any:
    """A `Params` field that users know under another config key, which the definition fills in."""
    return field(default=default, metadata={"config": key, "in_key": in_key})


def expanded(path: str) -> str:
    """A path as a person writes it, with `~` expanded.

    Raises:
        ValueError: it is an address, such as gs://bucket/folder.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ValueError("expected a path on this machine")
    return os.path.expanduser(path)


@dataclass(frozen=True)
class _Expanded:
    """What pydantic does with a `LocalPath`; by its own error the key is named."""

    or_url: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import PydanticCustomError, core_schema

        def check(path: str) -> str:
            try:
                return path if self.or_url and "://" in path else expanded(path)
            except ValueError as error:
                raise PydanticCustomError("path", str(error)) from None

        return core_schema.no_info_after_validator_function(check, handler(source))


LocalPath = Annotated[str, _Expanded()]
"""A setting that is the path of a file or folder."""

PathOrUrl = Annotated[str, _Expanded(or_url=True)]
"""A setting that is the path of a folder, or the address of one in an object store."""


def key_params(params: Any) -> dict[str, Any]:
    """`params` as a plain dict, without its `machine_local` fields (nested dataclasses too)."""
    kept: dict[str, Any] = {}
    for f in dataclasses.fields(params):
        if f.metadata.get("in_key", True):
            value = getattr(params, f.name)
            kept[f.name] = key_params(value) if dataclasses.is_dataclass(value) else value
    return kept


@dataclass(frozen=True)
class Context:
    """The part of the world that a running step may use; the runner makes one per attempt.

    Attributes:
        step: the step's name in the graph, e.g. `baseline` (its component may be `trainer`).
        run_id: the run that executes it.
        scratch: a folder that belongs to this step key alone. It survives a killed run, so a
            step may leave checkpoints there; the runner deletes it when the step has committed.
        cache: a folder shared by all runs of this home, for what can be had again from outside
            (prepared TFDS data). Other processes read and write there at the same time.
        log: goes to the step's log file.
        progress: `progress(done, total, note)` moves the step's progress line.
        beam: `with ctx.beam() as p:` gives an apache_beam Pipeline with the run's options.
        input_digests: digest of every bound input artifact, by input field name.
        outside: what the component's probe named when the step was planned; it is in the step key.
            None where nothing was planned: a component run by hand.
        provenance: code, lock, config digests and run id, as written beside a pushed model.
    """

    step: str
    run_id: str
    scratch: Path
    cache: Path
    log: logging.Logger
    progress: Callable[[int, int, str], None]
    beam: Callable[[], AbstractContextManager[Any]]
    input_digests: Mapping[str, str] = field(default_factory=dict)
    outside: Mapping[str, str] | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def reports(self) -> Path:
        """The file for what Beam's workers report: of this attempt, as a lost job may go on."""
        return self.scratch / f"reports-{uuid.uuid4().hex}.json"


@dataclass(frozen=True)
class Effect:
    """The state of the world that an effect step would change, as `plan` shows it.

    Attributes:
        needed: whether running the step would change anything.
        sentence: e.g. `up to date (v3 live)`, `held back (v3 withdrawn: bad accuracy)`, `publish`.
    """

    needed: bool
    sentence: str


@dataclass(frozen=True)
class Component(Generic[I, O, P]):
    """One step's declaration.

    Attributes:
        name: snake_case, TFX's name where TFX has one.
        Inputs: frozen dataclass whose fields are `Artifact` kinds, or `Kind | None` if optional.
        Outputs: frozen dataclass whose fields are `Artifact` kinds.
        Params: frozen dataclass of plain values; its section of the config.
        run: does the work. Reads `inputs.<x>.path`, fills the empty folders `outputs.<y>.path`.
        gate: the steps added later wait for the verdict that its outputs carry.
        probe: names the part of the outside world that the step reads, as short texts by name;
            they go into the key, so new data is a reason to rerun. Standard library only, because
            `plan` calls it. Its second argument is `Context.cache`.
        on_beam: True when `run` opens Beam pipelines, which may run on a cluster.
        effect: for a step that changes the world outside the store. Such a step is never answered
            from the step cache; this function looks at the world and says whether there is work.
            Inputs are bound when it is called; when they are not known yet the step is planned.
        data_files: repository paths of data files that `run` reads; their bytes are in the key.
        uses: module names that `run` imports dynamically, so that their code is in the key.
        ahead: what a process can do for `run` before its inputs are there, such as imports; an
            idle worker calls it with the parameters. It must not change what `run` gives.
    """

    name: str
    Inputs: type[I]
    Outputs: type[O]
    Params: type[P]
    run: Callable[[I, O, P, Context], Facts]
    gate: bool = False
    on_beam: bool = False
    probe: Callable[[P, Path], Mapping[str, str]] | None = None
    effect: Callable[[I, P], Effect] | None = None
    data_files: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    ahead: Callable[[P], None] | None = None

    @property
    def module(self) -> str:
        """The module that declares the component: the root of its code digest."""
        return self.run.__module__


Level = Literal["block", "warn", "off"]
"""The power that config gives a rule or check: to stop the run, only to warn, or none."""

Grade = Literal["off", "not checked", "ok", "warn", "block"]
"""The outcome of a rule or check."""

GRADES: tuple[Grade, ...] = get_args(Grade)
"""From what says nothing to what stops the run."""

_FORMER_GRADES = {
    "passed": "ok",
    "warned": "warn",
    "failed": "block",
    "no champion yet": "not checked",
    "True": "ok",
    "False": "block",
}


@dataclass(frozen=True)
class Ruling:
    """The outcome of one rule or check of a gate.

    Attributes:
        name: as in config.
        level: what config lets it do. None in a file of before, which did not say.
        outcome: `ok`, `warn` or `block` (as `level` has it), `off` (by config, or because anything
            would pass), or `not checked` (there was nothing to check).
        sentence: the outcome in words.
        value: what was measured; None where there is no such number.
        bound: what it was held against.
    """

    name: str
    level: Level | None
    outcome: Grade
    sentence: str
    value: float | None = None
    bound: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain values; a number that is not finite becomes null."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Ruling:
        """Reads what `to_json` made, or what each gate wrote in words of its own before.

        Raises:
            DataError: it is neither.
        """
        outcome, level = stored.get("outcome"), stored.get("level")
        if outcome is None and level is not None:  # a check of the data: `level` was its outcome
            outcome, level = level, stored.get("action")
        elif level is None:
            former = str(stored.get("passed") if outcome is None else outcome)
            outcome = _FORMER_GRADES.get(former, former)
        if outcome not in GRADES or level not in (None, *get_args(Level)):
            raise DataError(
                f"{stored.get('name')}: expected an outcome of {', '.join(GRADES)}, at a level of "
                f"{', '.join(get_args(Level))}, received {outcome!r} at {level!r}",
                hint="was it written by a newer bnpipe?",
            )
        name, sentence = str(stored.get("name", "")), str(stored.get("sentence", ""))
        return cls(name, level, outcome, sentence, stored.get("value"), stored.get("bound"))


@dataclass(frozen=True)
class Decision:
    """A gate's verdict, and every ruling behind it."""

    passed: bool
    sentence: str
    rulings: tuple[Ruling, ...]


def objection(rulings: Sequence[Ruling]) -> str:
    """The first ruling that blocks, with the names of the others; empty when none does."""
    blocking = [ruling for ruling in rulings if ruling.outcome == "block"]
    if len(blocking) > 1:
        return f"{blocking[0].sentence} (also: {', '.join(r.name for r in blocking[1:])})"
    return blocking[0].sentence if blocking else ""


def caveat(rulings: Sequence[Ruling]) -> str:
    """The end of a verdict that names the rulings that warn; empty when none does."""
    named = ", ".join(ruling.name for ruling in rulings if ruling.outcome == "warn")
    return f", warned of {named}" if named else ""
