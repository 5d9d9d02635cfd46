"""The work of `bnpipe run`: from the configuration and the command line to a run of the product."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bnpipe.components import pusher
from bnpipe.data.engines.settings import Beam
from bnpipe.data.errors import RequestError
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.publishing import check_target
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.events import Sink
from bnpipe.pipeline.engine.execute import FinishedRun, run_graph
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.lock import is_living
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.step import RunSettings
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.summary import attach, describe


@dataclass(frozen=True)
class Request:
    """A run as it was asked for on the command line.

    Attributes:
        selection: which steps.
        keep_going: after a failed step, go on with those that do not need it.
        verify: run every step a second time and compare the bytes.
        report: draw the report at the end, unless nothing ran.
        beam_flags: flags for Beam, after those of the config.
        trigger: slot, attempt and reasons of a scheduled run, for its record.
    """

    selection: Selection = Selection()
    keep_going: bool = False
    verify: bool = False
    report: bool = True
    beam_flags: tuple[str, ...] = ()
    trigger: Mapping[str, Any] | None = None


def launch(config: Config, home: Path, request: Request, sinks: Sequence[Sink] = ()) -> FinishedRun:
    """Run the pipeline of `pipeline.definition`.

    Raises:
        LockHeld: somebody has this home alone, such as gc.
        ConfigError: a selected step or a Beam flag is unknown, or a key or store cannot be used.
        StoreError: the store is of a newer format.
    """
    graph = build(config, home)
    require_target(config, graph, request.selection)
    return launch_graph(graph, config, home, request, sinks)


def launch_graph(
    graph: Graph, config: Config, home: Path, request: Request, sinks: Sequence[Sink] = ()
) -> FinishedRun:
    """Run a graph of the product's steps; see `launch`."""
    _use_one_thread()
    config.beam.require()
    flags = (*config.beam.options, *request.beam_flags)
    if config.beam.engine != "local":
        check_further_flags(config.beam, flags)
    settings = RunSettings(
        dataset=config.data.dataset,
        config=config.snapshot(),
        beam=beam_opener(flags if config.beam.engine == "local" else ()),
        cluster=None if config.beam.engine == "local" else partial(_cluster, config.beam, flags),
        selection=request.selection,
        jobs=config.run.jobs or min(4, _cores()),
        keep_going=request.keep_going,
        beam_flags=request.beam_flags,
        attempts=config.run.attempts,
        backoff_seconds=config.run.backoff_seconds,
        budget_seconds=config.run.budget_seconds,
        trigger=request.trigger,
        describe=describe,
        attach=attach,
        draw=draw if request.report else None,
        draw_ahead=draw_ahead,
    )
    return run_graph(graph, home, settings, sinks, verify=request.verify)


def require_target(config: Config, graph: Graph, selection: Selection) -> None:
    """Look at keys and store that versions are published with, before anything is run for them.

    Raises:
        ConfigError: one cannot be used, or a selected step does not exist.
    """
    if any(graph.nodes[name].component is pusher.COMPONENT for name in selection.steps(graph)):
        check_target(config)


def _cores() -> int:
    """The processors that this process may use."""
    # Not everywhere does the system tell.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _use_one_thread() -> None:
    """Lets TensorFlow start with one thread per operation, in whichever step that is.

    That is faster for batches of 32 than two, and the bits of large batches depend on the number.
    """
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # here and in worker processes
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        # In a notebook it may be too late: then the trainer says so.
        with suppress(RuntimeError):
            tensorflow.config.threading.set_intra_op_parallelism_threads(1)


def check_further_flags(beam: Beam, flags: Sequence[str]) -> None:
    """Makes sure that flags can be added to those of an engine.

    Raises:
        RequestError: Beam takes one for wrong, or it is for another engine.
    """
    from bnpipe.data.beam_io import check_flags

    check_flags([*beam.flags("localhost:1"), *flags])
    for flag in flags:
        if flag.partition("=")[0] in ("--runner", "--job_endpoint"):
            raise RequestError(
                f"{flag}: the engine is {beam.engine}",
                hint="--set beam.engine=local, or leave it out",
            )


def beam_opener(flags: Sequence[str]) -> Callable[..., AbstractContextManager[Any]]:
    """Opens Beam pipelines with these flags.

    Raises:
        BeamFlagError: a flag is wrong; before any step runs.
    """
    if flags:
        from bnpipe.data.beam_io import check_flags

        check_flags(flags)

    return partial(_open_beam, tuple(flags))


def _open_beam(flags: tuple[str, ...], progress: object = None) -> AbstractContextManager[Any]:
    from bnpipe.data import beam_io

    opened: AbstractContextManager[Any] = beam_io.pipeline(flags)
    return opened


def _cluster(
    beam: Beam, flags: tuple[str, ...], home: Path, run: Path, tell: Callable[[str], None]
) -> AbstractContextManager[Any]:
    from bnpipe.pipeline.cluster import started

    return started(beam, flags, home, run, lambda other: not is_living(home, other), tell)


def draw(home: Path, run: str) -> None:
    """Draws the report of a run."""
    from bnpipe.pipeline.report import write_report

    store = Store(home)
    write_report(store, find_run(store, run))


def draw_ahead() -> None:
    """Loads what drawing needs, and has the first drawing behind it."""
    from bnpipe.pipeline.report import evaluation_charts, page, svg  # noqa: F401

    page.template(page.TEMPLATE)
    svg.draw("ahead", 1.0, "", lambda axes: None)
