"""Runs a plan, step by step, in this process.

For every step: plan it with the digests known by now, answer it from the cache or run it into a
staging folder, check, hash and commit what it made, then write its record. Nothing else is state:
after a crash the next run plans again and finds what was committed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bnpipe.components.artifacts import Artifact, Verdict, VerdictArtifact
from bnpipe.data.errors import BnpipeError
from bnpipe.pipeline.engine.errors import (
    ConfigError,
    ExitCode,
    StepFailed,
    StoreError,
    exit_code_of,
    one_line,
)
from bnpipe.pipeline.engine.events import (
    GateDecided,
    RunStarted,
    Sink,
    StepErrored,
    StepFinished,
    StepStarted,
)
from bnpipe.pipeline.engine.fingerprint import CodeDigests
from bnpipe.pipeline.engine.graph import Graph
from bnpipe.pipeline.engine.plan import Action, Plan, Planner, Reason, StepPlan
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.step import RunSettings, StepRunner
from bnpipe.pipeline.engine.store import Manifest, StepRecord, Store, describe


@dataclass(frozen=True)
class StepOutcome:
    """The end of one step in a run."""

    plan: StepPlan
    seconds: float = 0.0
    record: StepRecord | None = None
    error: BaseException | None = None

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
        settings: RunSettings,
        sinks: Sequence[Sink] = (),
    ) -> None:
        self._graph = graph
        self._store = store
        self._folder = folder
        self._settings = settings
        self._sinks = sinks
        self._code = CodeDigests(memo=store.home / "cache" / "code.json")
        self._outside: dict[str, Mapping[str, str]] = {}
        self._done: dict[str, StepRecord] = {}
        self._step_runner = StepRunner(graph, store, folder, settings, self._emit)
        self.outcomes: list[StepOutcome] = []

    def run(self, plan: Plan) -> ExitCode:
        """Run the steps of a plan; `outcomes` holds what became of each.

        Raises:
            ConfigError: `--only` names a step whose inputs or gates are not in the cache.
            StoreError: a needed object is damaged.
            KeyboardInterrupt, Terminated: after the step was abandoned.
        """
        self._check_only()
        # What the probes saw when planning holds for the whole run: newer data waits for the next.
        self._outside |= {step.name: step.parts["outside"] for step in plan.steps if step.parts}
        self._emit(RunStarted(self._folder.id, self._settings.dataset, plan.steps))
        failed: list[StepOutcome] = []
        for step in plan.steps:
            needed = [f for f in failed if f.plan.name in self._graph.needs(step.name)]
            if needed or (failed and not self._settings.keep_going):
                why = Reason("failed", f"{(needed or failed)[0].plan.name} failed")
                skipped = dataclasses.replace(step, action=Action.SKIPPED, reasons=(why,))
                self.outcomes.append(StepOutcome(skipped))
                continue
            outcome = self._step(step.name)
            self.outcomes.append(outcome)
            if outcome.error is not None:
                failed.append(outcome)
        self._planner().save()
        if failed:
            return exit_code_of(failed[0].error or RuntimeError())
        refused = [o for o in self.outcomes if o.refused]
        return ExitCode.VERDICT if refused else ExitCode.OK

    @property
    def provenance(self) -> dict[str, str]:
        """Code, lock and config identity of this run; empty if no step ran."""
        return self._step_runner.provenance

    def verify(self) -> list[str]:
        """Run every finished step again and compare; returns one line per difference.

        Raises:
            StepFailed: a step does not run a second time.
        """
        again = (Reason("verify", "again, to compare"),)
        different: list[str] = []
        for outcome in self.outcomes:
            record = outcome.record
            if record is None or self._graph.nodes[record.name].component.effect is not None:
                continue
            plan = dataclasses.replace(outcome.plan, action=Action.RUN, reasons=again)
            began = time.monotonic()
            self._emit(StepStarted(plan))
            try:
                made = self._step_runner.run_once(plan, scratch=f"{record.key}-verify")
            except Exception as error:
                raise self._failure(record.name, error) from error
            for field, artifact in made.artifacts.items():
                before = self._store.manifest(record.outputs[field])
                different += [f"{record.name}.{field}: {d}" for d in _differing(before, artifact)]
            self._store.drop_scratch(f"{record.key}-verify")
            self._store.unstage(self._folder.id, record.name)
            self._emit(StepFinished(plan, time.monotonic() - began, made.facts, record.outputs))
        return different

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

    def _check_only(self) -> None:
        only = self._settings.selection.only
        if only is None:
            return
        planner, needed = self._planner(), self._graph.needs(only)
        missing = [n for n in self._graph.nodes if n in needed and planner.record(n) is None]
        if missing:
            raise ConfigError(
                f"--only {only} needs results that are not in the cache: {', '.join(missing)}",
                hint=f"bnpipe run --to {only}",
            )

    def _step(self, name: str) -> StepOutcome:
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
        return StepOutcome(plan, time.monotonic() - began, plan.record)

    def _run_step(self, plan: StepPlan, began: float) -> StepOutcome:
        made = self._step_runner.attempt(plan)
        manifests = {f: self._store.commit_object(a) for f, a in made.artifacts.items()}
        outputs = {f: m.digest for f, m in manifests.items()}
        seconds = time.monotonic() - began
        assert plan.key is not None
        record = StepRecord(
            key=plan.key,
            name=plan.name,
            component=plan.component,
            outputs=outputs,
            facts=dict(made.facts),
            verdict=self._verdict(made.artifacts, outputs),
            parts=plan.parts,
            run=self._folder.id,
            seconds=round(seconds, 3),
            finished=time.time(),
        )
        self._done[plan.name] = record
        if self._cacheable(plan):
            self._store.commit_step(record)
        self._store.drop_scratch(plan.key)
        self._store.unstage(self._folder.id, plan.name)
        self._finished(plan, seconds, record)
        return StepOutcome(plan, seconds, record)

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
        for field, artifact in artifacts.items():
            if isinstance(artifact, VerdictArtifact):
                return artifact.at(self._store.object_path(outputs[field])).verdict()
        return None

    def _finished(self, plan: StepPlan, seconds: float, record: StepRecord | None) -> None:
        facts, outputs = (record.facts, record.outputs) if record else ({}, {})
        self._emit(StepFinished(plan, seconds, facts, outputs))
        if record is not None and record.verdict is not None:
            self._emit(GateDecided(plan.name, record.verdict.passed, record.verdict.sentence))

    def _failed(self, plan: StepPlan, error: Exception, seconds: float) -> StepOutcome:
        self._store.unstage(self._folder.id, plan.name)
        failure = self._failure(plan.name, error)
        self._emit(StepErrored(plan.name, str(failure), str(self._folder.log(plan.name))))
        return StepOutcome(plan, seconds, error=failure)

    def _failure(self, step: str, error: Exception) -> StepFailed:
        if isinstance(error, BnpipeError):  # it has a hint of its own
            return StepFailed(step, error, hint="")
        logs = f"bnpipe logs {self._folder.id} {step}"
        return StepFailed(step, error, hint=f"see `{logs}`, then `bnpipe run` goes on from here")


def _differing(before: Manifest, artifact: Artifact) -> list[str]:
    old = {f.path: f.sha256 for f in before.files if f.digested}
    new = {f.path: f.sha256 for f in describe(artifact).files if f.digested}
    return [f"{path} differs" for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
