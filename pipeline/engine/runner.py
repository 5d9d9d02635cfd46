"""Runs a plan: every step as soon as those that it waits for have ended and there is a place.

For every step: plan it with the digests known by now, answer it from the cache or run it into a
staging folder, check, hash and commit what it made, then write its record. Where steps run is the
executor's business (`engine.workers`); what is committed, and in which words, is decided here, by
one thread. Nothing else is state: after a crash the next run plans again and finds what was
committed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bnpipe.components.artifacts import Artifact, Verdict, VerdictArtifact
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.attempts import Attempt, Attempts
from bnpipe.pipeline.engine.errors import (
    ConfigError,
    ExitCode,
    LockHeld,
    PipelineError,
    StepFailed,
    StoreError,
    exit_code_of,
    one_line,
)
from bnpipe.pipeline.engine.events import GateDecided, RunStarted, Sink, StepErrored, StepFinished
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.lock import RunLocks
from bnpipe.pipeline.engine.manifest import Manifest, describe
from bnpipe.pipeline.engine.plan import Action, Plan, Planner, Reason, StepPlan
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.step import RunSettings
from bnpipe.pipeline.engine.store import StepRecord, Store
from bnpipe.pipeline.engine.workers import DRAWING, Ahead

_SOON = 5
"""Steps that idle workers make ready for: what they load takes memory until it is used."""


@dataclass(frozen=True)
class StepOutcome:
    """The end of one step in a run.

    Attributes:
        plan: what was to be done.
        seconds: how long it took.
        worker: number of the process that ran it; 0 is the run's own.
        record: what it gave; None if it did not succeed.
        error: what ended it.
        ended: seconds since the epoch.
    """

    plan: StepPlan
    seconds: float = 0.0
    worker: int = 0
    record: StepRecord | None = None
    error: BaseException | None = None
    ended: float = field(default_factory=time.time)

    @property
    def refused(self) -> bool:
        """True when a verdict said no: this step's own, or one before it."""
        verdict = self.record.verdict if self.record else None
        return self.plan.action is Action.STOPPED or (verdict is not None and not verdict.passed)

    def snapshot(self) -> dict[str, Any]:
        """For `run.json`, `run --json` and `show --json`."""
        record = self.record
        return {
            "name": self.plan.name,
            "component": self.plan.component,
            "action": "failed" if self.error is not None else str(self.plan.action),
            "reasons": [dataclasses.asdict(r) for r in self.plan.reasons],
            "started": round(self.ended - self.seconds, 3),
            "seconds": round(self.seconds, 3),
            "worker": self.worker,
            "key": self.plan.key,
            "facts": dict(record.facts) if record else {},
            "inputs": dict(self.plan.digests),
            "outputs": dict(record.outputs) if record else {},
            "verdict": dataclasses.asdict(record.verdict) if record and record.verdict else None,
            "error": one_line(self.error) if self.error is not None else None,
        }


class Runner:
    """One run of a graph.

    Args:
        graph: what to run.
        store: where results live; prepared.
        folder: the run's folder.
        settings: how to run.
        attempts: runs the steps.
        locks: keeps other runs from a step while it is at work here.
        emit: receives every event.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        folder: RunFolder,
        settings: RunSettings,
        attempts: Attempts,
        locks: RunLocks,
        emit: Sink,
    ) -> None:
        self._graph = graph
        self._store = store
        self._folder = folder
        self._settings = settings
        self._emit = emit
        self._code = CodeDigests(memo=store.home / "cache" / "code.json")
        self._outside: dict[str, Mapping[str, str]] = {}
        self._done: dict[str, StepRecord] = {}
        self._waiting: dict[str, StepPlan] = {}
        self._twins: dict[str, set[str]] = {}
        self._failed: list[str] = []
        self._ended: dict[str, StepOutcome] = {}
        self._order: tuple[str, ...] = ()
        self._attempts = attempts
        self._locks = locks

    def run(self, plan: Plan) -> ExitCode:
        """Run the steps of a plan; `outcomes` holds what became of each.

        Raises:
            ConfigError: `--only` names a step whose inputs or gates are not in the cache.
            StoreError: a needed object is damaged.
            KeyboardInterrupt, Terminated: the steps at work are left for the executor to end.
        """
        self._check_only(plan.steps)
        # What the probes saw when planning holds for the whole run: newer data waits for the next.
        self._outside |= {step.name: step.parts["outside"] for step in plan.steps if step.parts}
        self._emit(RunStarted(self._folder.id, self._settings.dataset, plan.steps))
        self._order = tuple(step.name for step in plan.steps)
        for node in self._graph.nodes.values():  # as it is now, before any process imports it
            self._code.of(node.component)
        self._waiting = {step.name: step for step in plan.steps}
        while self._waiting or self._attempts.at_work:
            while self._attempts.has_place and (name := self._next()) is not None:
                self._begin(name)
            if self._attempts.at_work:
                for attempt in self._attempts.wait(self._coming()):
                    self._end(attempt)
        self._planner().save()
        if self.error is not None:
            return exit_code_of(self.error)
        refused = [o for o in self.outcomes if o.refused]
        return ExitCode.VERDICT if refused else ExitCode.OK

    @property
    def outcomes(self) -> list[StepOutcome]:
        """The steps that have ended, in the order of the graph."""
        return [self._ended[name] for name in self._order if name in self._ended]

    @property
    def error(self) -> BaseException | None:
        """The first error of a step; what another run is at counts only if nothing else failed."""
        errors = (o.error for o in self.outcomes if o.error is not None)
        return min(errors, key=lambda error: isinstance(error, LockHeld), default=None)

    @property
    def idle(self) -> bool:
        """True when no step is at work."""
        return not self._attempts.at_work

    @property
    def provenance(self) -> dict[str, str]:
        """Code, lock and config identity of this run; empty if no step ran."""
        return self._attempts.provenance

    def verify(self) -> list[str]:
        """Run every finished step that was asked for again; returns one line per difference.

        Raises:
            StepFailed: a step does not run a second time.
        """
        again = (Reason("verify", "again, to compare"),)
        waiting = [
            dataclasses.replace(o.plan, action=Action.RUN, reasons=again)
            for o in self.outcomes
            if o.record is not None
            and self._graph.nodes[o.plan.name].component.effect is None
            and self._settings.selection.only in (None, o.plan.name)
        ]
        different: dict[str, list[str]] = {plan.name: [] for plan in waiting}
        while waiting or self._attempts.at_work:
            while waiting and self._attempts.has_place:
                plan = waiting.pop(0)
                self._attempts.begin(plan, scratch=f"{self._folder.id}-{plan.name}-verify")
            for attempt in self._attempts.wait():
                name, record = attempt.plan.name, self._ended[attempt.plan.name].record
                if attempt.error is not None:
                    raise self._failure(name, attempt.error) from attempt.error
                assert record is not None
                for output, artifact in attempt.staged.items():
                    before = self._store.manifest(record.outputs[output])
                    different[name] += [
                        f"{name}.{output}: {path} differs" for path in _differing(before, artifact)
                    ]
                self._tidy(attempt)
                seconds, facts = attempt.seconds, attempt.facts or {}
                self._emit(StepFinished(attempt.plan, seconds, facts, record.outputs))
        return [line for lines in different.values() for line in lines]

    def _planner(self) -> Planner:
        return Planner(
            self._graph,
            self._store,
            force=self._settings.selection.force,
            done=self._done,
            code=self._code,
            outside=self._outside,
        )

    def _check_only(self, steps: Iterable[StepPlan]) -> None:
        only = self._settings.selection.only
        missing = [s.name for s in steps if s.action is Action.RUN and s.name != only]
        if only and missing:
            raise ConfigError(
                f"--only {only} needs results that are not in the cache: {', '.join(missing)}",
                hint=f"bnpipe run --to {only}",
            )

    def _next(self) -> str | None:
        """A step that waits for nothing any more."""
        going_on = {*self._waiting, *self._attempts.at_work}
        free = [
            name
            for name in self._waiting
            if going_on.isdisjoint(self._graph.waits_for(name) | self._twins.get(name, set()))
        ]
        return self._attempts.choose(free) if free else None

    def _coming(self) -> list[Ahead]:
        """What is to come soon, with what makes a process ready for it."""
        nodes, settings = self._graph.nodes, self._settings
        if self._failed and not settings.keep_going:
            return []
        coming: list[Ahead] = [
            (name, ahead, (nodes[name].params,))
            for name, plan in self._waiting.items()
            if plan.action is Action.RUN and (ahead := nodes[name].component.ahead) is not None
        ]
        if settings.draw is not None and settings.draw_ahead is not None:
            coming.append((DRAWING, settings.draw_ahead, ()))
        return coming[:_SOON]

    def _begin(self, name: str) -> None:
        """Skip a step, answer it from the cache, or start it; planned with what is known now."""
        failed = sorted(self._failed, key=self._order.index)
        needed = [f for f in failed if f in self._graph.needs(name)]
        if needed or (failed and not self._settings.keep_going):
            first = (needed or failed)[0]
            held = isinstance(self._ended[first].error, LockHeld)
            why = Reason("failed", f"{first} {'is at work elsewhere' if held else 'failed'}")
            skipped = dataclasses.replace(
                self._waiting.pop(name), action=Action.SKIPPED, reasons=(why,)
            )
            self._ended[name] = StepOutcome(skipped)
            return
        began = time.monotonic()
        plan = self._planner().step(name)
        self._check_only([plan])  # the world may have changed since the whole was planned
        twins = {n for n, a in self._attempts.at_work.items() if a.plan.key == plan.key}
        if plan.action is Action.RUN and twins:  # the same work: its result will be this one's
            self._twins[name] = twins
            return
        del self._waiting[name]
        try:
            plan = self._locked(plan)
            if plan.action is Action.RUN:
                self._attempts.begin(plan)
                return
        except StoreError:
            raise
        except Exception as error:  # it is locked; a full disk; it cannot be sent to a process
            self._fail(Attempt(plan, "", began=began), error)
            return
        if plan.record is not None:
            self._done[name] = plan.record
        self._finish(StepOutcome(plan, time.monotonic() - began, record=plan.record))

    def _locked(self, plan: StepPlan) -> StepPlan:
        """Take the lock of a step that is to run, and look again: another run may just have run it.

        Raises:
            LockHeld: another run is at it.
        """
        while plan.action is Action.RUN:
            assert plan.key is not None
            self._locks.take(plan.name, plan.key)
            before, plan = plan, self._planner().step(plan.name)
            if plan.action is Action.RUN and plan.key == before.key:
                break
            self._locks.drop(plan.name)
        return plan

    def _end(self, attempt: Attempt) -> None:
        """Commit what a step made, or tell that it failed."""
        if attempt.error is None:
            try:
                self._commit(attempt)
                return
            except StoreError:
                raise
            except Exception as error:  # such as a full disk
                attempt.error = error
        self._fail(attempt, attempt.error)

    def _commit(self, attempt: Attempt) -> None:
        plan = attempt.plan
        manifests = {f: self._store.commit_object(a) for f, a in attempt.staged.items()}
        outputs = {f: m.digest for f, m in manifests.items()}
        assert plan.key is not None
        record = StepRecord(
            key=plan.key,
            name=plan.name,
            component=plan.component,
            outputs=outputs,
            facts=dict(attempt.facts or {}),
            verdict=self._verdict(attempt.staged, outputs),
            parts=plan.parts,
            run=self._folder.id,
            seconds=round(attempt.seconds, 3),
            finished=time.time(),
        )
        self._done[plan.name] = record
        if self._cacheable(plan):
            self._store.commit_step(record)
        self._tidy(attempt)
        self._finish(StepOutcome(plan, attempt.seconds, attempt.worker, record))

    def _tidy(self, attempt: Attempt) -> None:
        self._store.drop_scratch(attempt.scratch)
        self._store.unstage(self._folder.id, attempt.plan.name)

    def _cacheable(self, plan: StepPlan) -> bool:
        """True when the result may be remembered under the key that was planned."""
        component = self._graph.nodes[plan.name].component
        if component.effect is not None:
            return False
        # Of sources that were edited while the step ran nobody knows which text it imported.
        return self._code.again().of(component) == plan.parts["code"]

    def _verdict(
        self, artifacts: Mapping[str, Artifact], outputs: Mapping[str, str]
    ) -> Verdict | None:
        for name, artifact in artifacts.items():
            if isinstance(artifact, VerdictArtifact):
                return artifact.at(self._store.object_path(outputs[name])).verdict()
        return None

    def _finish(self, outcome: StepOutcome) -> None:
        """Keep the end of a step that did not fail, and tell it with the verdict of a gate."""
        plan, record = outcome.plan, outcome.record
        self._locks.drop(plan.name)
        self._ended[plan.name] = outcome
        facts, outputs = (record.facts, record.outputs) if record else ({}, {})
        self._emit(StepFinished(plan, outcome.seconds, facts, outputs))
        if record is not None and record.verdict is not None:
            self._emit(GateDecided(plan.name, record.verdict.passed, record.verdict.sentence))

    def _fail(self, attempt: Attempt, error: Exception) -> None:
        plan = attempt.plan
        self._store.unstage(self._folder.id, plan.name)
        self._locks.drop(plan.name)
        failure = self._failure(plan.name, error)
        log = "" if isinstance(failure, LockHeld) else str(self._folder.log(plan.name))
        self._emit(StepErrored(plan.name, str(failure), log))
        self._ended[plan.name] = StepOutcome(plan, attempt.seconds, attempt.worker, error=failure)
        self._failed.append(plan.name)

    def _failure(self, step: str, error: Exception) -> PipelineError:
        if isinstance(error, LockHeld):
            return error
        if isinstance(error, BnpipeError):  # it has a hint of its own
            return StepFailed(step, error, hint="")
        logs = f"bnpipe logs {self._folder.id} {step}"
        return StepFailed(step, error, hint=f"see `{logs}`, then `bnpipe run` goes on from here")


def _differing(before: Manifest, artifact: Artifact) -> list[str]:
    old = {f.path: f.sha256 for f in before.files if f.digested}
    new = {f.path: f.sha256 for f in describe(artifact).files if f.digested}
    return [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
