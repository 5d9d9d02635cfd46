"""What a component is: four names in one module, and one `COMPONENT = Component(...)` line.

A step module declares frozen dataclasses `Inputs`, `Outputs` and `Params`, and a plain
`run(inputs, outputs, params, ctx) -> Facts`. There is nothing to inherit and nothing to register:
`Graph.add` takes the `Component` value and returns its `Outputs`, so mypy checks the wiring.
This module uses the standard library only, like everything that `bnpipe --help` imports.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

Facts = Mapping[str, "float | int | str | bool | None"]
"""What a step tells about itself: a flat dict of numbers and texts. Not part of any digest."""

I = TypeVar("I")  # noqa: E741 - Inputs, Outputs, Params
O = TypeVar("O")  # noqa: E741
P = TypeVar("P")


def machine_local(default: Any) -> Any:
    """A `Params` field that says where or how on this machine, never what: not in step keys."""
    return field(default=default, metadata={"in_key": False})


def configured_as(key: str, default: Any, *, in_key: bool = True) -> Any:
    """A `Params` field that users know under another config key, which the definition fills in."""
    return field(default=default, metadata={"config": key, "in_key": in_key})


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
    """What a running step may use of the world. The runner makes one for every attempt.

    Attributes:
        step: the step's name in the graph, e.g. `baseline` (its component may be `trainer`).
        run_id: the run that executes it.
        scratch: a folder that belongs to this step key alone. It survives a killed run, so a
            step may leave checkpoints there; the runner deletes it when the step has committed.
        cache: a folder shared by all runs of this home, for what can be had again from outside
            (prepared TFDS data). Concurrent readers are possible, writers are not.
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
        effect: for a step that changes the world outside the store. Such a step is never answered
            from the step cache; this function looks at the world and says whether there is work.
            Inputs are bound when it is called; when they are not known yet the step is planned.
        data_files: repository paths of data files that `run` reads; their bytes are in the key.
        uses: module names that `run` imports dynamically, so that their code is in the key.
    """

    name: str
    Inputs: type[I]
    Outputs: type[O]
    Params: type[P]
    run: Callable[[I, O, P, Context], Facts]
    gate: bool = False
    probe: Callable[[P, Path], Mapping[str, str]] | None = None
    effect: Callable[[I, P], Effect] | None = None
    data_files: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module that declares the component: the root of its code digest."""
        return self.run.__module__
