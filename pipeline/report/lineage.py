"""The lineage of a run: its steps in order, and an arc for every artifact that flows.

It is drawn from the run's own record, not from today's graph: an old run is shown as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROW = 46
_LANE = 9
_LEFT = 14

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Node:
    """A step, or what came from outside.

    Attributes:
        name: of the step, or of the input.
        detail: what it made, by digest.
        action: what happened to the step; `outside` for what no step of the run made.
        y: its distance from the top.
    """

    name: str
    detail: str
    action: str
    y: int


@dataclass(frozen=True)
class Arc:
    """One artifact on its way from a step to another.

    Attributes:
        path: the SVG path.
        sentence: e.g. `trainer.model 10eac9bf goes to evaluator.candidate`.
    """

    path: str
    sentence: str


@dataclass(frozen=True)
class Lineage:
    """What the drawing needs.

    Attributes:
        nodes: from top to bottom.
        arcs: what flows between them.
        spine: where the dots lie, from the left.
        height: of the drawing.
    """

    nodes: tuple[Node, ...]
    arcs: tuple[Arc, ...]
    spine: int
    height: int


def lineage(run: Json) -> Lineage:
    """Lay out a run's steps and what flows between them."""
    nodes: list[Node] = []
    edges: list[tuple[int, int, str]] = []
    makers: dict[str, tuple[int, str]] = {}

    def add(name: str, outputs: Json, action: str) -> int:
        detail = ", ".join(f"{field} {digest[:8]}" for field, digest in outputs.items())
        nodes.append(Node(name, detail, action, ROW * len(nodes) + ROW // 2))
        return len(nodes) - 1

    for step in run["steps"]:
        inputs = {field: digest for field, digest in step["inputs"].items() if digest}
        for field, digest in inputs.items():
            if digest not in makers:
                makers[digest] = (add(field, {"": digest}, "outside"), field)
        here = add(step["name"], step["outputs"], step["action"])
        for field, digest in inputs.items():
            maker, output = makers[digest]
            edges.append((maker, here, f"{output} {digest[:8]} goes to {step['name']}.{field}"))
        for field, digest in step["outputs"].items():
            makers[digest] = (here, f"{step['name']}.{field}")
    spine = _LEFT + _LANE * max((end - start for start, end, _ in edges), default=1)
    arcs = tuple(Arc(_path(start, end, spine), sentence) for start, end, sentence in edges)
    return Lineage(tuple(nodes), arcs, spine, ROW * len(nodes))


def _path(start: int, end: int, spine: int) -> str:
    """A curve on the left of the spine, wider for steps that lie further apart."""
    top, bottom = ROW * start + ROW // 2 + 4, ROW * end + ROW // 2 - 4
    outermost = spine - 8 - _LANE * (end - start) * 4 // 3
    return f"M{spine - 5},{top} C{outermost},{top} {outermost},{bottom} {spine - 9},{bottom}"
