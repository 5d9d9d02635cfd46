"""The code of one planned step: into staging folders, with its output in a log."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Context
from bnpipe.data.engines.errors import EngineError
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.capture import captured
from bnpipe.pipeline.engine.errors import WorkerDied
from bnpipe.pipeline.engine.graph import Node
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.store import Store

# Trying again cannot help: the disk is full, the file is not there, access is denied.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM}


@dataclass(frozen=True)
class RunSettings:
    """The behaviour of a run, whatever its graph.

    Attributes:
        dataset: the data set's name, for people.
        config: the resolved configuration, as plain values.
        beam: opens a Beam pipeline with the run's options; it is sent to worker processes, and may
            be given where to tell how far the pipeline is.
        cluster: has what such pipelines run on ready from the first step that needs it to the
            run's end, and gives what opens them there; it takes the home, the run's folder and
            whom to tell how far it is. None where `beam` needs nothing.
        selection: which steps.
        jobs: how many steps may run at the same time; with more than one they run in worker
            processes, else in this one.
        keep_going: after a failed step, go on with those that do not need it.
        beam_flags: what `beam` opens pipelines with, for the record.
        attempts: how often a step may be tried when it meets a fault.
        backoff_seconds: upper bound of the first wait between attempts; doubles each time.
        budget_seconds: all waits of a run together.
        trigger: slot, attempt and reasons of a scheduled run; None for any other.
        describe: takes the steps as they stand in `run.json`, and gives what the product says of
            them there.
        attach: the same for `report.json`; it may read the store.
        draw: takes the home and the run's id when all of that is written, and adds a picture of
            it; None for none. It is sent to a worker process.
        draw_ahead: makes a process ready to draw.
    """

    dataset: str
    config: Mapping[str, Any]
    beam: Callable[..., AbstractContextManager[Any]]
    selection: Selection = Selection()
    jobs: int = 1
    keep_going: bool = False
    beam_flags: tuple[str, ...] = ()
    attempts: int = 3
    backoff_seconds: float = 2.0
    budget_seconds: float = 60.0
    trigger: Mapping[str, Any] | None = None
    describe: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda steps: {}
    attach: Callable[[Store, list[dict[str, Any]]], dict[str, Any]] = lambda store, steps: {}
    draw: Callable[[Path, str], None] | None = None
    draw_ahead: Callable[[], None] | None = None
    cluster: Callable[[Path, Path, Callable[[str], None]], AbstractContextManager[Any]] | None = (
        None
    )


@dataclass(frozen=True)
class Task:
    """One attempt at a step, as a value: it may be sent to another process.

    Attributes:
        node: the step, with its component and parameters.
        inputs: bound to their folders, by field.
        staged: outputs, bound to empty folders, by field.
        log: the file that what it prints goes to.
        run: the run's id.
        scratch: a folder that belongs to the step's key.
        cache: the folder shared by all runs of the home.
        beam: opens a Beam pipeline.
        digests: of the inputs that are there, by field.
        outside: what the component's probe named.
        provenance: identity of code and configuration.
    """

    node: Node
    inputs: Mapping[str, Artifact | None]
    staged: Mapping[str, Artifact]
    log: Path
    run: str
    scratch: Path
    cache: Path
    beam: Callable[..., AbstractContextManager[Any]]
    digests: Mapping[str, str]
    outside: Mapping[str, str] | None
    provenance: Mapping[str, str]

    @property
    def step(self) -> str:
        """The step's name."""
        return self.node.name


def execute(task: Task, progress: Callable[[int, int, str], None]) -> Mapping[str, Any]:
    """Run a step's code, and check what it made.

    Returns:
        its facts; its outputs are in their staging folders.

    Raises:
        Exception: whatever the step raised.
    """
    component = task.node.component
    with captured(task.log, task.step) as log:
        context = Context(
            step=task.step,
            run_id=task.run,
            scratch=task.scratch,
            cache=task.cache,
            log=log,
            progress=progress,
            beam=partial(task.beam, progress) if task.node.component.on_beam else task.beam,
            input_digests=task.digests,
            outside=task.outside,
            provenance=task.provenance,
        )
        inputs = component.Inputs(**task.inputs)
        outputs = component.Outputs(**task.staged)
        try:
            facts = component.run(inputs, outputs, task.node.params, context)
            if not isinstance(facts, Mapping):
                raise TypeError(f"{component.name} gave {facts!r}, expected a dict of facts")
            for artifact in task.staged.values():
                artifact.check()
        except SystemExit as error:  # a library that ends the process would end the run
            log.exception("%s called exit", task.step)
            raise RuntimeError(f"the step's code called exit({error.code})") from error
        except Exception:
            log.exception("%s failed", task.step)
            raise
    return facts


def may_pass(error: Exception) -> bool:
    """True when the same step may succeed on a second try: after faults, not verdicts or bugs."""
    if isinstance(error, WorkerDied):
        return True
    if isinstance(error, BnpipeError):
        return isinstance(error, EngineError) and error.may_pass
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    # A Beam worker that died shows as a bare RuntimeError.
    return type(error) is RuntimeError and "Channel closed" in str(error)
