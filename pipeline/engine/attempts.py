"""Attempts at planned steps: staged, handed to the executor, made again after faults."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any

from bnpipe.components.artifacts import Artifact
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.events import Progress, Sink, StepRetried, StepStarted
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.graph import Graph, Node
from bnpipe.pipeline.engine.plan import StepPlan
from bnpipe.pipeline.engine.provenance import provenance
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.step import RunSettings, Task, may_pass
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.engine.workers import Ahead, Ended, Executor


@dataclass
class Attempt:
    """A step that is at work, waits to be tried again, or has ended.

    Attributes:
        plan: the step.
        scratch: name of its scratch folder.
        began: when its first attempt began, on the monotonic clock.
        number: of the attempt, from 1.
        worker: number of the process that runs it; 0 is this one.
        again: when to start the next attempt, on the monotonic clock; None while one is at work.
        staged: its outputs by field, checked when it has ended without an error.
        facts: what the step tells about itself; None unless it has succeeded.
        error: what ended it for good.
    """

    plan: StepPlan
    scratch: str
    began: float = field(default_factory=time.monotonic)
    number: int = 1
    worker: int = 0
    again: float | None = None
    staged: Mapping[str, Artifact] = field(default_factory=dict)
    facts: Mapping[str, Any] | None = None
    error: Exception | None = None

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self.began


class Attempts:
    """The steps of one run that are at work.

    Args:
        graph: where the steps are defined.
        store: where inputs lie and outputs are staged.
        folder: the run's folder.
        settings: how to run.
        executor: where the code runs.
        emit: receives events.
        open_clusters: closed by the caller when the run is over.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        folder: RunFolder,
        settings: RunSettings,
        executor: Executor,
        emit: Sink,
        open_clusters: ExitStack,
    ) -> None:
        self._open_clusters = open_clusters
        self._beam = settings.beam if settings.cluster is None else None
        self._graph = graph
        self._store = store
        self._folder = folder
        self._settings = settings
        self._executor = executor
        self._emit = emit
        self._verified: set[str] = set()
        self._paused = 0.0
        self._numbers = itertools.count(1)
        self.at_work: dict[str, Attempt] = {}
        self.provenance: dict[str, str] = {}

    @property
    def has_place(self) -> bool:
        """True while one more step may begin."""
        return len(self.at_work) < self._executor.places

    def choose(self, steps: Sequence[str]) -> str:
        """The one to begin, of steps that may."""
        return self._executor.choose(steps)

    def begin(self, plan: StepPlan, scratch: str | None = None) -> None:
        """Start a step.

        Args:
            plan: the step, with its key and bound inputs.
            scratch: name of its scratch folder; by default the step key.

        Raises:
            StoreError: an input object is damaged.
            OSError: its outputs cannot be staged.
        """
        self._verify_inputs(plan)
        assert plan.key is not None
        attempt = Attempt(plan, scratch or plan.key)
        self._start(attempt)
        self.at_work[plan.name] = attempt

    def wait(self, coming: Sequence[Ahead] = ()) -> list[Attempt]:
        """Wait until something has happened; the attempts that have ended for good.

        Args:
            coming: what those who are idle may make ready for.
        """
        self._executor.ahead(coming)
        pauses = [a.again for a in self.at_work.values() if a.again is not None]
        seconds = max(0.0, min(pauses) - time.monotonic()) if pauses else None
        for ended in self._executor.wait(seconds):
            self._end(self.at_work[ended.step], ended)
        for attempt in self.at_work.values():
            if attempt.again is not None and attempt.again <= time.monotonic():
                attempt.again = None
                try:
                    self._start(attempt)
                except Exception as error:  # a full disk, or it cannot be sent
                    attempt.error = error
        over = [a for a in self.at_work.values() if a.error is not None or a.facts is not None]
        for attempt in over:
            del self.at_work[attempt.plan.name]
        return over

    def _start(self, attempt: Attempt) -> None:
        plan = attempt.plan
        node = self._graph.nodes[plan.name]
        self._emit(StepStarted(plan, attempt.number))
        scratch = self._store.scratch(attempt.scratch)
        scratch.mkdir(parents=True, exist_ok=True)
        number = next(self._numbers)  # of all attempts of this run: `verify` makes more
        attempt.staged = {
            name: artifact.at(self._store.stage(self._folder.id, plan.name, number, name))
            for name, artifact in node.artifacts("outputs").items()
            if artifact is not None
        }
        task = Task(
            node=node,
            inputs=plan.bound,
            staged=attempt.staged,
            log=self._folder.log(plan.name),
            run=self._folder.id,
            scratch=scratch,
            cache=self._store.cache,
            beam=self._beam_for(node),
            digests={f: d for f, d in plan.digests.items() if d is not None},
            outside=plan.parts["outside"],
            provenance=self._provenance_of_run(),
        )
        attempt.worker = self._executor.start(task)

    def _beam_for(self, node: Node) -> Callable[..., AbstractContextManager[Any]]:
        """What opens a step's Beam pipelines; the first step that has any waits for the cluster."""
        settings = self._settings
        if self._beam is None and node.component.on_beam and settings.cluster is not None:
            self._beam = self._open_clusters.enter_context(
                settings.cluster(
                    self._store.home,
                    self._folder.path,
                    lambda note: self._emit(Progress(node.name, 0, 0, note)),
                )
            )
        return self._beam or settings.beam

    def _end(self, attempt: Attempt, ended: Ended) -> None:
        """Take what an attempt made, or try again within the budget."""
        error = ended.error
        if error is None:
            attempt.facts = ended.facts
            return
        pause = random.uniform(0, self._settings.backoff_seconds * 2 ** (attempt.number - 1))
        last = attempt.number == self._settings.attempts or not may_pass(error)
        if last or self._paused + pause > self._settings.budget_seconds:
            attempt.error = error
            return
        self._paused += pause
        self._store.unstage(self._folder.id, attempt.plan.name)
        attempt.number += 1
        attempt.again = time.monotonic() + pause
        self._emit(StepRetried(attempt.plan.name, one_line(error), pause))

    def _verify_inputs(self, plan: StepPlan) -> None:
        """Hash every input object once per run, before anything is computed from it."""
        for name, digest in plan.digests.items():
            artifact = plan.bound[name]
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
