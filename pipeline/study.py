"""The second graph: what `bnpipe study` runs, by the same engine, store and cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bnpipe.components import example_gen, study, transform
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.engine.events import Sink
from bnpipe.pipeline.engine.execute import FinishedRun
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.launch import Request, launch_graph


def build(config: Config) -> Graph:
    """Hundreds of trainings on the examples of the product, which are cached after a `run`."""
    g = Graph()
    examples = g.add(example_gen.COMPONENT, example_gen.Inputs(), config.data).examples
    digits = g.add(
        transform.COMPONENT, transform.Inputs(examples=examples), config.transform
    ).transformed
    g.add(study.COMPONENT, study.Inputs(examples=digits), config.study)
    return g


def launch(config: Config, home: Path, request: Request, sinks: Sequence[Sink] = ()) -> FinishedRun:
    """Run the study; the arguments and errors are those of `pipeline.launch.launch`."""
    return launch_graph(build(config), config, home, request, sinks)
