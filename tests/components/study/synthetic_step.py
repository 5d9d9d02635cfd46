"""A step that takes a study out of the air, for tests of what comes after a study has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.study import results
from bnpipe.components.study.results import Study
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.engine.events import Sink
from bnpipe.pipeline.engine.execute import FinishedRun, run_graph
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.launch import Request
from tests.components.study.synthetic import Synthetic
from tests.toy_graph import toy_settings


@dataclass(frozen=True)
class Inputs:
    pass


@dataclass(frozen=True)
class Outputs:
    study: Study


@dataclass(frozen=True, kw_only=True)
class Params:
    seed: int = 0


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    results.write(outputs.study.path, Synthetic(seed=params.seed).study(few=10))
    return {"seconds_per_step_none": 1e-4, "seconds_per_step_batch": 1.1e-4, "trainings": 1}


COMPONENT = Component("study", Inputs, Outputs, Params, run)


def launch(config: Config, home: Path, request: Request, sinks: Sequence[Sink] = ()) -> FinishedRun:
    """In place of `pipeline.study.launch`."""
    graph = Graph()
    graph.add(COMPONENT, Inputs(), Params(seed=config.trainer.seed))
    return run_graph(graph, home, toy_settings(selection=request.selection), sinks)
