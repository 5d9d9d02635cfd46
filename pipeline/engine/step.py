"""Runs one planned step: into staging folders, with its output in a log, again after faults."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from bnpipe.components.artifacts import Artifact
from bnpipe.components.base import Context
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.capture import captured
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.events import Progress, Sink, StepRetried, StepStarted
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Selection, StepPlan
from bnpipe.pipeline.engine.provenance import provenance
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store

# Trying again cannot help: the disk is full, the file is not there, access is denied.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM}


@dataclass(frozen=True)
class RunSettings:
    """The behaviour of a run, whatever its graph.

    Attributes:
        dataset: the data set's name, for people.
        config: the resolved configuration, as plain values.
        beam: opens a Beam pipeline with the run's options.
        selection: which steps.
        keep_going: after a failed step, go on with those that do not need it.
        beam_flags: what `beam` opens pipelines with, for the record.
        attempts: how often a step may be tried when it meets a fault.
        backoff_seconds: upper bound of the first wait between attempts; doubles each time.
        budget_seconds: all waits of a run together.
        trigger: slot, attempt and reasons of a scheduled run; None for any other.
        describe: takes the steps as they stand in `run.json`, and gives what the product says of
            them there.
        attach: the same for `report.json`; it may read the store.
    """

    dataset: str
    config: Mapping[str, Any]
    beam: Callable[[], AbstractContextManager[Any]]
    selection: Selection = Selection()
    keep_going: bool = False
    beam_flags: tuple[str, ...] = ()
    attempts: int = 3
    backoff_seconds: float = 2.0
    budget_seconds: float = 60.0
    trigger: Mapping[str, Any] | None = None
    describe: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda steps: {}
    attach: Callable[[Store, list[dict[str, Any]]], dict[str, Any]] = lambda store, steps: {}


@dataclass(frozen=True)
class Made:
    """The outputs of a step before they are committed.

    Attributes:
        artifacts: by output field, checked, in staging folders.
        facts: what the step tells about itself.
    """

    artifacts: Mapping[str, Artifact]
    facts: Mapping[str, Any]


class StepRunner:
    """Runs the code of the steps of one run.

    Args:
        graph: where the steps are defined.
        store: where inputs lie and outputs are staged.
        folder: the run's folder.
        settings: how to run.
        emit: receives events.
    """

    def __init__(
        self, graph: Graph, store: Store, folder: RunFolder, settings: RunSettings, emit: Sink
    ) -> None:
        self._graph = graph
        self._store = store
        self._folder = folder
        self._settings = settings
        self._emit = emit
        self._verified: set[str] = set()
        self._waited = 0.0
        self.provenance: dict[str, str] = {}

    def attempt(self, plan: StepPlan) -> Made:
        """Execute a step, again after faults, within the budget.

        Raises:
            Exception: whatever the step raised last.
        """
        for attempt in range(1, self._settings.attempts + 1):
            self._emit(StepStarted(plan, attempt))
            try:
                return self.run_once(plan)
            except Exception as error:
                last = attempt == self._settings.attempts or not _may_pass(error)
                wait = random.uniform(0, self._settings.backoff_seconds * 2 ** (attempt - 1))
                if last or self._waited + wait > self._settings.budget_seconds:
                    raise
                self._waited += wait
                self._emit(StepRetried(plan.name, one_line(error), wait))
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def run_once(self, plan: StepPlan, scratch: str | None = None) -> Made:
        """Run a step's code into staging folders and check what it made.

        Args:
            plan: the step, with its key and bound inputs.
            scratch: name of its scratch folder; by default the step key.

        Raises:
            StoreError: an input object is damaged.
            Exception: whatever the step raised.
        """
        node = self._graph.nodes[plan.name]
        self._verify_inputs(plan)
        assert plan.key is not None
        scratch_folder = self._store.scratch(scratch or plan.key)
        scratch_folder.mkdir(parents=True, exist_ok=True)
        outputs = {
            field: artifact.at(self._store.stage(self._folder.id, plan.name, field))
            for field, artifact in node.artifacts("outputs").items()
            if artifact is not None
        }

        def progress(done: int, total: int, note: str = "") -> None:
            self._emit(Progress(plan.name, done, total, note))

        with captured(self._folder.log(plan.name), plan.name) as log:
            context = Context(
                step=plan.name,
                run_id=self._folder.id,
                scratch=scratch_folder,
                cache=self._store.cache,
                log=log,
                progress=progress,
                beam=self._settings.beam,
                input_digests={f: d for f, d in plan.digests.items() if d is not None},
                outside=plan.parts["outside"],
                provenance=self._provenance_of_run(),
            )
            inputs = node.component.Inputs(**plan.bound)
            try:
                facts = node.component.run(
                    inputs, node.component.Outputs(**outputs), node.params, context
                )
                for artifact in outputs.values():
                    artifact.check()
            except SystemExit as error:  # a library that ends the process would end the run
                log.exception("%s called exit", plan.name)
                raise RuntimeError(f"the step's code called exit({error.code})") from error
            except Exception:
                log.exception("%s failed", plan.name)
                raise
        return Made(outputs, facts)

    def _verify_inputs(self, plan: StepPlan) -> None:
        """Hash every input object once per run, before anything is computed from it."""
        for field, digest in plan.digests.items():
            artifact = plan.bound[field]
            if digest is None or artifact is None or digest in self._verified:
                continue
            if artifact.path == self._store.object_path(digest):
                self._store.require(digest, deep=True)
            self._verified.add(digest)

    def _provenance_of_run(self) -> dict[str, str]:
        if not self.provenance:
            components = [node.component for node in self._graph.nodes.values()]
            self.provenance = provenance(
                self._folder.id,
                self._settings.config,
                self._folder.path,
                CodeDigests(memo=self._store.home / "cache" / "code.json"),
                [name for c in components for name in (c.module, *c.uses)],
            )
        return self.provenance


def _may_pass(error: Exception) -> bool:
    """True when the same step may succeed on a second try: after faults, not verdicts or bugs."""
    if isinstance(error, BnpipeError):
        return False
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    # A Beam worker that died shows as a bare RuntimeError.
    return type(error) is RuntimeError and "Channel closed" in str(error)
