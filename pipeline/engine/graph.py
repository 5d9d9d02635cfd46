"""The graph: steps in the order they were added, wired by typed values.

`Graph.add` returns the step's `Outputs`, whose artifacts know their producer; passing them to the
next step's `Inputs` is the wiring. There is no other: no channel, no name to look up.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Component, I, O, P
from bnpipe.pipeline.engine.errors import DefinitionError

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Resolved:
    """The artifact that an external reference names now.

    Attributes:
        location: the folder.
        digest: of its content.
        sentence: for people, e.g. `v3, live`.
    """

    location: Path
    digest: str
    sentence: str


Resolver = Callable[[str | None], Resolved | None]
"""Takes the candidate's served digest if it is known; standard library only, `plan` calls it."""


@dataclass(frozen=True)
class Reference:
    """An artifact that no step of this graph makes, such as the champion."""

    name: str
    kind: type[Artifact]
    resolve: Resolver
    candidate: str | None


@dataclass(frozen=True)
class Node:
    """A component placed in the graph."""

    name: str
    component: Component[Any, Any, Any]
    inputs: Any
    params: Any
    outputs: Any

    def artifacts(self, side: str) -> dict[str, Artifact | None]:
        """The artifacts of `inputs` or `outputs`, by field name; None is an unused optional."""
        value = getattr(self, side)
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}


class Graph:
    """Steps and external references, in the order they were added."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.references: dict[str, Reference] = {}

    def add(
        self, component: Component[I, O, P], inputs: I, params: P, *, name: str | None = None
    ) -> O:
        """Place a component; returns its outputs, to be wired into later steps.

        Raises:
            DefinitionError: the name is taken, or an input does not fit.
        """
        name = name or component.name
        if name in self.nodes or name in self.references:
            raise DefinitionError(f"two steps are called {name}", hint="give one a name=")
        _check_inputs(name, component, inputs, {*self.nodes, *self.references})
        kinds = {f: hint for f, (hint, _) in _kinds(component.Outputs).items()}
        outputs = component.Outputs(**{f: kind(f"{name}.{f}") for f, kind in kinds.items()})
        self.nodes[name] = Node(name, component, inputs, params, outputs)
        return outputs

    def external(
        self, name: str, kind: type[A], resolve: Resolver, *, candidate: str | None = None
    ) -> A:
        """Refer to an artifact from outside, resolved at plan time.

        Args:
            name: e.g. `champion`.
            kind: its artifact kind.
            resolve: looks it up; None means that there is none.
            candidate: the model that the reference is compared with, e.g. `trainer.model`; its
                step may come later. When its digest is known at plan time (its step is cached) the
                resolver is told, so that a model that is already live is not compared with itself.
                None: the reference is not compared with anything, and its resolver is given None.
        """
        if name in self.nodes or name in self.references:
            raise DefinitionError(f"two steps or references are called {name}")
        self.references[name] = Reference(name, kind, resolve, candidate)
        return kind(name)

    def upstream(self, name: str) -> list[str]:
        """The steps whose outputs a step reads, directly."""
        producers = (step_of(a) for a in self.nodes[name].artifacts("inputs").values() if a)
        return [p for p in dict.fromkeys(producers) if p in self.nodes]

    def ancestors(self, name: str) -> set[str]:
        """All steps that a step's inputs depend on."""
        ancestors: set[str] = set()
        waiting = self.upstream(name)
        while waiting:
            step = waiting.pop()
            if step not in ancestors:
                ancestors.add(step)
                waiting += self.upstream(step)
        return ancestors

    def needs(self, name: str) -> set[str]:
        """All steps that must have succeeded before a step: its inputs' and its gates' closures."""
        steps = self.ancestors(name)
        for gate in self.gates_before(name):
            steps |= {gate, *self.ancestors(gate)}
        return steps

    def waits_for(self, name: str) -> set[str]:
        """All steps that must have ended before a step is planned.

        Beside those that it needs: which version a reference is compared with depends on what is
        known of its candidate, so a step that reads such a reference is planned after all that
        were added before it, and before all that were added after it. What is planned does then
        not depend on the order in which steps end.
        """
        order = list(self.nodes)
        before = order[: order.index(name)]
        if self._compares(name):
            return set(before)
        return {*self.needs(name), *filter(self._compares, before)}

    def _compares(self, name: str) -> bool:
        """True when a step reads a reference that is compared with a candidate."""
        inputs = (step_of(a) for a in self.nodes[name].artifacts("inputs").values() if a)
        return any(r in self.references and self.references[r].candidate for r in inputs)

    def gates_before(self, name: str) -> Iterator[str]:
        """The gates whose verdict a step waits for: all that were added before it."""
        for other, node in self.nodes.items():
            if other == name:
                return
            if node.component.gate:
                yield other


def step_of(artifact: Artifact) -> str:
    """The step (or reference) that an artifact comes from."""
    return artifact.producer.partition(".")[0]


def _kinds(cls: type[Any]) -> dict[str, tuple[type[Artifact], bool]]:
    """Artifact kind and whether it is optional, by field of an Inputs or Outputs dataclass."""
    hints = typing.get_type_hints(cls)
    kinds: dict[str, tuple[type[Artifact], bool]] = {}
    for f in dataclasses.fields(cls):
        hint, optional = hints[f.name], False
        if isinstance(hint, types.UnionType):
            members = [m for m in typing.get_args(hint) if m is not types.NoneType]
            hint, optional = members[0], True
        if not (isinstance(hint, type) and issubclass(hint, Artifact)):
            raise DefinitionError(
                f"{cls.__module__}.{cls.__name__}.{f.name} must be an artifact kind, got {hint}"
            )
        kinds[f.name] = (hint, optional)
    return kinds


def _check_inputs(
    name: str, component: Component[Any, Any, Any], inputs: Any, known: set[str]
) -> None:
    for field, (kind, optional) in _kinds(component.Inputs).items():
        artifact = getattr(inputs, field)
        if artifact is None and optional:
            continue
        if not isinstance(artifact, kind):
            raise DefinitionError(
                f"{name}.{field} takes {kind.__name__}, got {type(artifact).__name__}"
            )
        if step_of(artifact) not in known:
            raise DefinitionError(
                f"{name}.{field} comes from {artifact.producer or 'nowhere'}, which is not a step "
                f"added before it"
            )
