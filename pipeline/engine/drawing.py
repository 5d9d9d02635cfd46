"""Draws a graph as text: ASCII for the terminal, Mermaid for READMEs, DOT, JSON."""

from __future__ import annotations

from collections.abc import Callable

from bnpipe.data.json_text import json_text
from bnpipe.pipeline.engine.graph import Graph, step_of


def edges(graph: Graph) -> list[tuple[str, str, str]]:
    """(from, to, artifact field) of everything that is wired, references included."""
    return [
        (step_of(artifact), name, artifact.producer.partition(".")[2])
        for name, node in graph.nodes.items()
        for artifact in node.artifacts("inputs").values()
        if artifact is not None
    ]


def draw(graph: Graph, form: str) -> str:
    """The graph in one of the forms `ascii`, `mermaid`, `dot`, `json`."""
    return _FORMS[form](graph)


def _ascii(graph: Graph) -> str:
    width = max(map(len, graph.nodes), default=0)
    lines = []
    for name, node in graph.nodes.items():
        sources = list(dict.fromkeys(a for a, to, _ in edges(graph) if to == name))
        made = ", ".join(type(a).__name__ for a in node.artifacts("outputs").values())
        gate = "  [gate]" if node.component.gate else ""
        from_ = f"  <- {', '.join(sources)}" if sources else ""
        lines.append(f"{name:<{width}}  {made}{gate}{from_}")
    return "\n".join(lines)


def _mermaid(graph: Graph) -> str:
    wired = {name for source, reader, _ in edges(graph) for name in (source, reader)}
    lines = ["flowchart LR"]
    lines += [
        f"  {n}{{{{{n}}}}}" if node.component.gate else f"  {n}"
        for n, node in graph.nodes.items()
        if node.component.gate or n not in wired  # the others are boxes where they are wired
    ]
    lines += [f"  {name}([{name}])" for name in graph.references]
    readers: dict[tuple[str, str], list[str]] = {}
    for source, reader, field in edges(graph):
        readers.setdefault((source, field), []).append(reader)
    for (source, field), names in readers.items():
        arrow = f"-->|{field}|" if field else "-.->"
        lines.append(f"  {source} {arrow} {' & '.join(names)}")
    return "\n".join(lines)


def _dot(graph: Graph) -> str:
    lines = ["digraph bnpipe {", "  rankdir=LR;"]
    lines += [
        f"  {n} [shape={'diamond' if node.component.gate else 'box'}];"
        for n, node in graph.nodes.items()
    ]
    lines += [f"  {name} [shape=oval];" for name in graph.references]
    lines += [f'  {a} -> {b} [label="{field}"];' for a, b, field in edges(graph)]
    return "\n".join([*lines, "}"])


def _json(graph: Graph) -> str:
    value = {
        "steps": [
            {"name": n, "component": node.component.name, "gate": node.component.gate}
            for n, node in graph.nodes.items()
        ],
        "references": list(graph.references),
        "edges": [{"from": a, "to": b, "artifact": field} for a, b, field in edges(graph)],
    }
    return json_text(value, indent=2)


_FORMS: dict[str, Callable[[Graph], str]] = {
    "ascii": _ascii,
    "mermaid": _mermaid,
    "dot": _dot,
    "json": _json,
}
