"""A new span is a reason to run again, the plan names it, and the run does what the plan shows."""

from pathlib import Path
from typing import Any

import pytest

from bnpipe.components import example_gen, transform
from bnpipe.components.example_gen import Params
from bnpipe.data.beam_io import pipeline
from bnpipe.pipeline.engine.execute import run_graph
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Plan, make_plan
from bnpipe.pipeline.engine.store import Store
from tests.span_folders import write_images
from tests.toy_graph import toy_settings


def test_the_plan_names_a_new_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans, home = tmp_path / "spans", tmp_path / "home"
    spans.mkdir()

    def reasons(**more: object) -> dict[str, list[str]]:
        steps = make_plan(graph(**more), Store(home)).steps
        return {step.name: [r.sentence for r in step.reasons] for step in steps}

    def graph(**more: object) -> Graph:
        g = Graph()
        pattern = f"{spans}/{{SPAN}}"
        params = Params(dataset="rendered_digits", size=512, spans=pattern, **more)  # type: ignore[arg-type]
        made = g.add(example_gen.COMPONENT, example_gen.Inputs(), params).examples
        g.add(transform.COMPONENT, transform.Inputs(examples=made), transform.Params())
        return g

    def images() -> int:
        settings = toy_settings(beam=lambda *_: pipeline(()))
        result = run_graph(graph(), home, settings)  # type: ignore[arg-type]
        assert result.error is None
        return int(result.summary["steps"][1]["facts"]["images"])

    assert images() == 512
    unchanged = reasons()
    assert unchanged["example_gen"] == ["unchanged since run 0001"]

    def planned_just_before_it_arrives(*asked: Any) -> Plan:
        plan = make_plan(*asked)
        write_images(spans / "2026-11-20", seed=5, train=40)
        return plan

    with monkeypatch.context() as patched:
        patched.setattr("bnpipe.pipeline.engine.execute.make_plan", planned_just_before_it_arrives)
        assert images() == 512  # the run does what the plan shows
    assert reasons()["example_gen"] == ["outside changed: span 2026-11-20"]
    assert images() == 512 + 40
    assert reasons()["example_gen"] == ["unchanged since run 0003"]

    write_images(spans / "2026-11-21", seed=6, train=9)
    sentence = "outside changed: span 2026-11-21, span 2026-11-20 is gone"
    assert reasons(span_window=1)["example_gen"] == [sentence]
    assert reasons(first_span=20261122)["example_gen"] == unchanged["example_gen"]
