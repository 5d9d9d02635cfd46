"""The graph as text."""

import json
import re
from pathlib import Path

import pytest

from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.drawing import draw, edges
from bnpipe.pipeline.engine.graph import Graph
from tests.pipeline.engine.side_by_side import FIRST, Nothing, Params
from tests.toy_graph import toy_graph


@pytest.fixture
def toy(tmp_path: Path) -> Graph:
    return toy_graph(tmp_path / "in.txt", tmp_path / "served")


def test_edges_are_everything_that_is_wired(toy: Graph) -> None:
    assert edges(toy) == [
        ("source", "train", "numbers"),
        ("source", "twin", "numbers"),
        ("train", "judge", "model"),
        ("twin", "judge", "model"),
        ("champion", "judge", ""),
        ("train", "pusher", "model"),
        ("judge", "pusher", "blessing"),
    ]


def test_ascii_is_one_line_per_step_in_order(toy: Graph) -> None:
    assert draw(toy, "ascii").splitlines() == [
        "source  Artifact",
        "train   Model  <- source",
        "twin    Model  <- source",
        "judge   Blessing  [gate]  <- train, twin, champion",
        "pusher  PushedModel  <- train, judge",
    ]


def test_mermaid_shows_every_node_and_declares_what_is_no_box(toy: Graph) -> None:
    first, *lines = draw(toy, "mermaid").splitlines()
    assert first == "flowchart LR"
    node = re.compile(r"  (\w+)(?:\{\{\w+\}\}|\(\[\w+\]\)|)")
    edge = re.compile(r"  (\w+) (?:-->\|\w+\||-\.->) (\w+(?: & \w+)*)")
    declared = {m[1] for line in lines if (m := node.fullmatch(line))}
    joined = [m.groups() for line in lines if (m := edge.fullmatch(line))]
    assert len(declared) + len(joined) == len(lines)  # nothing else stands there
    assert declared == {"judge", "champion"}
    pairs = [(a, b) for a, readers in joined for b in readers.split(" & ")]
    assert sorted(pairs) == sorted((a, b) for a, b, _ in edges(toy))
    assert {name for pair in pairs for name in pair} == {*toy.nodes, "champion"}
    assert "  judge{{judge}}" in lines and "  champion -.-> judge" in lines
    assert "  train -->|model| judge & pusher" in lines


def test_dot_is_one_balanced_digraph(toy: Graph) -> None:
    text = draw(toy, "dot")
    assert text.startswith("digraph bnpipe {") and text.endswith("\n}")
    assert text.count("{") == text.count("}") == 1
    assert "judge [shape=diamond];" in text and "champion [shape=oval];" in text
    assert 'source -> train [label="numbers"];' in text


def test_json_has_steps_references_and_edges(toy: Graph) -> None:
    value = json.loads(draw(toy, "json"))
    assert [s["name"] for s in value["steps"]] == list(toy.nodes)
    assert value["steps"][2] == {"name": "twin", "component": "train", "gate": False}
    assert value["references"] == ["champion"]
    assert {"from": "judge", "to": "pusher", "artifact": "blessing"} in value["edges"]


@pytest.mark.parametrize("form", ["ascii", "mermaid", "dot", "json"])
def test_the_product_can_be_drawn_in_every_form(tmp_path: Path, form: str) -> None:
    graph = build(from_values({}), tmp_path)
    text = draw(graph, form)
    assert all(name in text for name in graph.nodes)


@pytest.mark.parametrize("form", ["ascii", "mermaid", "dot", "json"])
def test_a_graph_without_steps_can_be_drawn(form: str) -> None:
    draw(Graph(), form)


def test_a_step_that_nothing_is_wired_to_is_drawn() -> None:
    graph = Graph()
    graph.add(FIRST, Nothing(), Params())
    assert draw(graph, "mermaid") == "flowchart LR\n  first"
