"""Executes a plan, step by step, in this process.

For every step: plan it with the digests known by now, answer it from the cache or run it into a
staging folder, check, hash and commit what it made, then write its record. Nothing else is state:
after a crash the next run plans again and finds what was committed.
"""

from __future__ import annotations

import dataclasses
import errno
import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from components.artifacts import Artifact, Verdict, VerdictArtifact
from components.base import Context
from data.errors import BnpipeError
from pipeline.capture import captured
from pipeline.errors import ConfigError, ExitCode, StepFailed, StoreError, exit_code_of, one_line
from pipeline.events import (
    GateDecided,
    Progress,
    RunStarted,
    Sink,
    StepErrored,
    StepFinished,
    StepRetried,
    StepStarted,
)
from pipeline.fingerprint import ROOT, CodeDigests
from pipeline.graph import Graph
from pipeline.index import Index
from pipeline.plan import Action, Plan, Planner, Reason, Selection, StepPlan
from pipeline.provenance import provenance
from pipeline.runs import RunFolder
from pipeline.store import Manifest, StepRecord, Store, describe

# Trying again cannot help: the disk is full, the file is not there, access is denied.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.ENOENT, errno.EACCES, errno.EROFS, errno.EPERM}


@dataclass(frozen=True)
class Settings:
    """How a run behaves, whatever its graph.

    Attributes:
        dataset: the data set's name, for people.
        config: the resolved configuration, as plain values.
        beam: opens a Beam pipeline with the run's options.
        selection: which steps.
        keep_going: after a failed step, go on with those that do not need it.
        attempts: how often a step may be tried when it meets a fault.
        backoff_seconds: upper bound of the first wait between attempts; doubles each time.
        budget_seconds: all waits of a run together.
    """

    dataset: str
    config: Mapping[str, Any]
    beam: Callable[[], AbstractContextManager[Any]]
    selection: Selection = Selection()
    keep_going: bool = False
    attempts: int = 3
    backoff_seconds: float = 2.0
    budget_seconds: float = 60.0


@dataclass(frozen=True)
class Outcome:
    """What became of one step in a run."""

    plan: StepPlan
    seconds: float = 0.0
    record: StepRecord | None = None
    error: BaseException | None = None

    @property
    def refused(self) -> bool:
        """Whether a verdict said no: this step's own, or one before it."""
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
            "seconds": round(self.seconds, 3),
            "key": self.plan.key,
            "facts": dict(record.facts) if record else {},
            "inputs": dict(self.plan.digests),
            "outputs": dict(record.outputs) if record else {},
            "verdict": dataclasses.asdict(record.verdict) if record and record.verdict else None,
            "error": one_line(self.error) if self.error is not None else None,
        }


class Runner:
    """One run of a graph. The caller holds the home's lock.

    Args:
        graph: what to run.
        store: where results live; prepared.
        folder: the run's folder.
        settings: how to run.
        sinks: receive every event.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        folder: RunFolder,
        settings: Settings,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._graph = graph
        self._store = store
        self._folder = folder
        self._settings = settings
        self._sinks = sinks
        self._code = CodeDigests(ROOT, store.home / "cache" / "code.json")
        self._outside: dict[str, Mapping[str, str]] = {}
        self._done: dict[str, StepRecord] = {}
        self._verified: set[str] = set()
        self._waited = 0.0
        self._provenance: dict[str, str] = {}
        self.outcomes: list[Outcome] = []

    def run(self, plan: Plan) -> ExitCode:
        """Run the steps of a plan; `outcomes` holds what became of each.

        Raises:
            ConfigError: `--only` names a step whose inputs or gates are not in the cache.
            StoreError: a needed object is damaged.
            KeyboardInterrupt, Terminated: after the step was abandoned.
        """
        self._check_only()
        self._emit(RunStarted(self._folder.id, self._settings.dataset, plan.steps))
        failed: list[Outcome] = []
        for name in (step.name for step in plan.steps):
            if any(f.plan.name in self._needs(name) for f in failed):
                continue
            outcome = self._step(name)
            self.outcomes.append(outcome)
            if outcome.error is not None:
                failed.append(outcome)
                if not self._settings.keep_going:
                    break
        self._planner().save()
        if failed:
            return exit_code_of(failed[0].error or RuntimeError())
        refused = [o for o in self.outcomes if o.refused]
        return ExitCode.VERDICT if refused else ExitCode.OK

    def verify(self) -> list[str]:
        """Run every finished step again and compare; returns one line per difference."""
        found: list[str] = []
        for outcome in self.outcomes:
            record = outcome.record
            if record is None or outcome.plan.action not in (Action.RUN, Action.CACHED):
                continue
            if self._graph.nodes[record.name].component.effect is not None:
                continue
            plan = dataclasses.replace(outcome.plan, action=Action.RUN)
            self._emit(
                StepStarted(
                    dataclasses.replace(plan, reasons=(Reason("verify", "again, to compare"),))
                )
            )
            began = time.monotonic()
            artifacts, facts = self._execute(plan, scratch=f"{record.key}-verify")
            for field, artifact in artifacts.items():
                again, before = describe(artifact), self._store.manifest(record.outputs[field])
                found += [f"{record.name}.{field}: {d}" for d in _differing_files(before, again)]
            self._store.unstage(self._folder.id, record.name)
            self._emit(StepFinished(plan, time.monotonic() - began, facts, record.outputs))
        return found

    def _emit(self, event: Any) -> None:
        for sink in self._sinks:
            sink(event)

    def _planner(self) -> Planner:
        return Planner(
            self._graph,
            self._store,
            force=self._settings.selection.force,
            done=self._done,
            code=self._code,
            outside=self._outside,
        )

    def _needs(self, name: str) -> set[str]:
        return self._graph.ancestors(name) | set(self._graph.gates_before(name))

    def _check_only(self) -> None:
        only = self._settings.selection.only
        if only is None:
            return
        planner = self._planner()
        missing = [
            n for n in self._graph.nodes if n in self._needs(only) and planner.record(n) is None
        ]
        if missing:
            raise ConfigError(
                f"--only {only} needs results that are not in the cache: {', '.join(missing)}",
                hint=f"bnpipe run --to {only}",
            )

    def _step(self, name: str) -> Outcome:
        """Plan one step with what is known now, and do it."""
        plan = self._planner().step(name)
        began = time.monotonic()
        if plan.action is Action.RUN:
            try:
                return self._run_step(plan, began)
            except StoreError:
                raise
            except Exception as error:  # the boundary to the step's own code
                return self._failed(plan, error, time.monotonic() - began)
        if plan.record is not None:
            self._done[name] = plan.record
        self._finished(plan, time.monotonic() - began, plan.record)
        return Outcome(plan, time.monotonic() - began, plan.record)

    def _run_step(self, plan: StepPlan, began: float) -> Outcome:
        artifacts, facts = self._attempts(plan)
        manifests = {f: self._store.commit_object(a) for f, a in artifacts.items()}
        outputs = {f: m.digest for f, m in manifests.items()}
        seconds = time.monotonic() - began
        assert plan.key is not None
        record = StepRecord(
            key=plan.key,
            name=plan.name,
            component=plan.component,
            outputs=outputs,
            facts=dict(facts),
            verdict=self._verdict(artifacts, outputs),
            parts=plan.parts,
            run=self._folder.id,
            seconds=round(seconds, 3),
            finished=time.time(),
        )
        self._done[plan.name] = record
        if self._cacheable(plan):
            self._store.commit_step(record)
            Index(self._store).add_step(record)
        self._store.drop_scratch(plan.key)
        self._store.unstage(self._folder.id, plan.name)
        self._finished(plan, seconds, record)
        return Outcome(plan, seconds, record)

    def _cacheable(self, plan: StepPlan) -> bool:
        """Whether the result may be remembered under the key that was planned."""
        component = self._graph.nodes[plan.name].component
        if component.effect is not None:
            return False
        # Sources that were edited while the step ran may or may not be what it imported.
        now = self._code.again().closure([component.module, *component.uses])
        return now == plan.parts["code"]

    def _attempts(self, plan: StepPlan) -> tuple[dict[str, Artifact], Mapping[str, Any]]:
        """Execute a step, again after faults, within the budget."""
        for attempt in range(1, self._settings.attempts + 1):
            self._emit(StepStarted(plan, attempt))
            try:
                return self._execute(plan)
            except Exception as error:
                last = attempt == self._settings.attempts or not _may_pass(error)
                wait = random.uniform(0, self._settings.backoff_seconds * 2 ** (attempt - 1))
                if last or self._waited + wait > self._settings.budget_seconds:
                    raise
                self._waited += wait
                self._emit(StepRetried(plan.name, one_line(error), wait))
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _execute(
        self, plan: StepPlan, scratch: str | None = None
    ) -> tuple[dict[str, Artifact], Mapping[str, Any]]:
        """Run a step's code into staging folders and check what it made."""
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
        with captured(self._folder.log(plan.name), plan.name) as log:
            context = Context(
                step=plan.name,
                run_id=self._folder.id,
                scratch=scratch_folder,
                cache=self._store.cache,
                log=log,
                progress=self._progress(plan.name),
                beam=self._settings.beam,
                input_digests={f: d for f, d in plan.digests.items() if d is not None},
                provenance=self._provenance_of_run(),
            )
            inputs = node.component.Inputs(**plan.bound)
            try:
                facts = node.component.run(
                    inputs, node.component.Outputs(**outputs), node.params, context
                )
                for artifact in outputs.values():
                    artifact.check()
            except Exception:
                log.exception("%s failed", plan.name)
                raise
        return outputs, facts

    def _progress(self, step: str) -> Callable[[int, int, str], None]:
        def tell(done: int, total: int, note: str = "") -> None:
            self._emit(Progress(step, done, total, note))

        return tell

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
        if not self._provenance:
            self._provenance = provenance(self._folder.id, self._settings.config, self._folder.path)
        return self._provenance

    def _verdict(
        self, artifacts: Mapping[str, Artifact], outputs: Mapping[str, str]
    ) -> Verdict | None:
        for field, artifact in artifacts.items():
            if isinstance(artifact, VerdictArtifact):
                return artifact.at(self._store.object_path(outputs[field])).verdict()
        return None

    def _finished(self, plan: StepPlan, seconds: float, record: StepRecord | None) -> None:
        facts, outputs = (record.facts, record.outputs) if record else ({}, {})
        self._emit(StepFinished(plan, seconds, facts, outputs))
        if record is not None and record.verdict is not None:
            self._emit(GateDecided(plan.name, record.verdict.passed, record.verdict.sentence))

    def _failed(self, plan: StepPlan, error: Exception, seconds: float) -> Outcome:
        self._store.unstage(self._folder.id, plan.name)
        log = self._folder.log(plan.name)
        hint = (
            f"see `bnpipe logs {self._folder.id} {plan.name}`, then `bnpipe run` goes on from here"
        )
        failure = StepFailed(plan.name, error, hint=hint)
        if isinstance(error, BnpipeError):  # it has a hint of its own; the log is the second one
            failure = StepFailed(plan.name, error, hint="")
        self._emit(StepErrored(plan.name, str(failure), str(log)))
        return Outcome(plan, seconds, error=failure)


def _may_pass(error: Exception) -> bool:
    """Whether the same step may succeed when it is tried again: faults, not verdicts or bugs."""
    if isinstance(error, BnpipeError):
        return False
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    # A Beam worker that died shows as a bare RuntimeError.
    return type(error) is RuntimeError and "Channel closed" in str(error)


def _differing_files(before: Manifest, after: Manifest) -> list[str]:
    old = {f.path: f.sha256 for f in before.files if f.digested}
    new = {f.path: f.sha256 for f in after.files if f.digested}
    return [f"{path} differs" for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
