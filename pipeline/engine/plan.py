"""The plan: for every step, whether it is answered from the cache or run, and why.

`make_plan` only reads. `engine.runner` asks the same `Planner` about one step at a time, with the
digests known by then, so `run` does what `plan` shows; the one difference it can find is a step
whose inputs turn out to be what they were (early cut-off).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bnpipe.components.artifacts import Artifact
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.fingerprint import (
    ROOT,
    CodeDigests,
    canonical,
    differences,
    digest_of,
    key_parts,
)
from bnpipe.pipeline.engine.graph import Graph, Node, Resolved, step_of
from bnpipe.pipeline.engine.store import StepRecord, Store


class Action(StrEnum):
    """The fate of a step."""

    RUN = "run"
    CACHED = "cached"
    KEEP = "keep"
    """An effect step with nothing to do: the world is as it should be."""
    STOPPED = "stopped"
    """A gate's verdict keeps it from running."""
    SKIPPED = "skipped"
    """A step that it needs has failed, or the run ended before it."""


@dataclass(frozen=True)
class Reason:
    """A reason for which a step runs, or does not.

    Attributes:
        code: for scripts: new, code, params, input, outside, file, environment, gone, after,
            effect, verdict, forced, same, verify, failed.
        sentence: for people.
    """

    code: str
    sentence: str


@dataclass(frozen=True)
class StepPlan:
    """One step of a plan.

    Attributes:
        key: the step key; None while an input is not known yet.
        parts: what the key was made of.
        record: what the cache has, if the action is CACHED.
        bound: input artifacts by field, bound to their folders, as far as known.
        digests: digest of every known input, by field.
        estimate: seconds that the step took when it last ran.
    """

    name: str
    component: str
    action: Action
    reasons: tuple[Reason, ...]
    key: str | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    record: StepRecord | None = None
    bound: Mapping[str, Artifact | None] = field(default_factory=dict)
    digests: Mapping[str, str | None] = field(default_factory=dict)
    estimate: float | None = None

    def snapshot(self) -> dict[str, Any]:
        """For `--json` and `plan.json`."""
        return {
            "name": self.name,
            "component": self.component,
            "action": str(self.action),
            "reasons": [dataclasses.asdict(r) for r in self.reasons],
            "key": self.key,
            "estimate_seconds": self.estimate,
        }


@dataclass(frozen=True)
class Plan:
    """All steps, in order."""

    steps: tuple[StepPlan, ...]

    @property
    def work(self) -> list[StepPlan]:
        """The steps that would run."""
        return [s for s in self.steps if s.action is Action.RUN]

    def snapshot(self) -> dict[str, Any]:
        """For `--json` and `plan.json`."""
        return {"steps": [s.snapshot() for s in self.steps]}


@dataclass(frozen=True)
class Selection:
    """The steps that are asked for.

    Attributes:
        to: this step and what it needs.
        only: this step; what it needs must be in the cache.
        force: steps that run whatever the cache has.
    """

    to: str | None = None
    only: str | None = None
    force: tuple[str, ...] = ()

    def steps(self, graph: Graph) -> list[str]:
        """The selected steps, in order.

        Raises:
            ConfigError: a name is not a step, or two of them exclude each other.
        """
        for name in filter(None, (self.to, self.only, *self.force)):
            if name not in graph.nodes:
                raise ConfigError(
                    f"there is no step {name!r}", hint=f"steps are: {', '.join(graph.nodes)}"
                )
        if self.only and self.to:
            raise ConfigError("--only and --to exclude each other", hint="give one of them")
        others = [name for name in self.force if name != self.only]
        if self.only and others:
            raise ConfigError(
                f"--only {self.only} runs that step alone, received --force {others[0]}",
                hint=f"bnpipe run --to {self.only} --force {' --force '.join(self.force)}",
            )
        last = self.only or self.to
        if not last:
            return list(graph.nodes)
        wanted = {last, *graph.needs(last)}
        return [name for name in graph.nodes if name in wanted]


class Planner:
    """Answers for one step at a time what would happen to it now.

    Args:
        graph: the definition.
        store: where results are looked up.
        force: steps that are not to be answered from the cache.
        done: records of steps that this run has already made or found.
        code: code digests, shared between planners of one run.
    """

    def __init__(
        self,
        graph: Graph,
        store: Store,
        *,
        force: tuple[str, ...] = (),
        done: Mapping[str, StepRecord] | None = None,
        code: CodeDigests | None = None,
        outside: dict[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._graph = graph
        self._store = store
        self._force = force
        self._done = dict(done or {})
        self._code = code or CodeDigests(memo=store.home / "cache" / "code.json")
        self._outside = {} if outside is None else outside
        self._looked_up: dict[str, StepRecord | None] = {}
        self._described: dict[str, StepPlan] = {}
        self._records = store.records()
        self._newest: dict[str, StepRecord] = {}

    def step(self, name: str) -> StepPlan:
        """Plan a step with what is known now.

        Raises:
            StoreError: a cached object is damaged.
        """
        node = self._graph.nodes[name]
        plan = self._describe(node)
        stopped = self._stopping_verdict(name)
        if stopped:
            return dataclasses.replace(plan, action=Action.STOPPED, reasons=(stopped,))
        if node.component.effect is not None:
            return self._effect(node, plan)
        record = self.record(name)
        if record is not None:
            why = Reason("same", f"unchanged since run {record.run}")
            return dataclasses.replace(plan, action=Action.CACHED, reasons=(why,), record=record)
        previous = self._previous(name)
        reasons = self._why_run(node, plan, previous)
        estimate = previous.seconds if previous else None
        return dataclasses.replace(plan, reasons=reasons, estimate=estimate)

    def save(self) -> None:
        """Keep what was learnt about the code for the next plan."""
        self._code.save()

    def record(self, name: str) -> StepRecord | None:
        """The record of a step from this run or the cache; None if it must run or is not known.

        Raises:
            StoreError: a cached object is damaged.
        """
        if name in self._done:
            return self._done[name]
        if name in self._force or self._graph.nodes[name].component.effect is not None:
            return None
        if name not in self._looked_up:
            key = self._describe(self._graph.nodes[name]).key
            self._looked_up[name] = self._store.lookup(key) if key else None
        return self._looked_up[name]

    def _previous(self, name: str) -> StepRecord | None:
        """The newest record of a step: what reasons are told against."""
        if name not in self._newest:
            for record in self._records:  # goes on where it stopped: there may be thousands
                self._newest.setdefault(record.name, record)
                if record.name == name:
                    break
        return self._newest.get(name)

    def _describe(self, node: Node) -> StepPlan:
        """Inputs, parts and key of a step, as far as they are known."""
        if node.name not in self._described:
            self._described[node.name] = self._description(node)
        return self._described[node.name]

    def _description(self, node: Node) -> StepPlan:
        bound: dict[str, Artifact | None] = {}
        digests: dict[str, str | None] = {}
        pending: list[Reason] = []
        for name, artifact in node.artifacts("inputs").items():
            answer = (None, None) if artifact is None else self._input(node, artifact)
            if isinstance(answer, Reason):
                pending.append(answer)
            else:
                bound[name], digests[name] = answer
        for name, artifact in bound.items():
            # A reference that is the object under test itself is left out: with new code on the
            # data that the champion was made from, a comparison would find no difference.
            others = [d for other, d in digests.items() if other != name and d is not None]
            if artifact and step_of(artifact) in self._graph.references and digests[name] in others:
                bound[name] = digests[name] = None
        base = StepPlan(
            node.name, node.component.name, Action.RUN, tuple(pending), bound=bound, digests=digests
        )
        outside = self._probe(node)  # at once: what is wrong outside is no news of the last step
        if pending:
            return base
        parts = key_parts(node.component, node.params, digests, outside, self._code)
        return dataclasses.replace(base, key=digest_of(parts), parts=parts)

    def _input(self, node: Node, artifact: Artifact) -> tuple[Artifact | None, str | None] | Reason:
        """One input, bound, with its digest; a Reason if it is not known yet."""
        source, _, output = artifact.producer.partition(".")
        if source in self._graph.references:
            known, resolved = self._resolve(node.name, source)
            if not known:
                return Reason("after", f"{source} is looked up when it is known")
            if resolved is None:
                return None, None
            return artifact.at(resolved.location), resolved.digest
        record = self.record(source)
        if record is None:
            return Reason("after", f"after {source}")
        digest = record.outputs[output]
        return artifact.at(self._store.object_path(digest)), digest

    def _probe(self, node: Node) -> Mapping[str, str]:
        if node.component.probe is None:
            return {}
        if node.name not in self._outside:
            self._outside[node.name] = node.component.probe(node.params, self._store.cache)
        return self._outside[node.name]

    def _resolve(self, step: str, name: str) -> tuple[bool, Resolved | None]:
        """An external reference for a step: whether it can be known yet, and what it names."""
        reference = self._graph.references[name]
        if reference.candidate is None:
            return True, reference.resolve(None)
        source, _, output = reference.candidate.partition(".")
        record = self.record(source)
        if record is None:
            # With which version the candidate is compared depends on its digest. Only steps that
            # come after the candidate can wait for it; the others take the live version.
            if source in self._graph.ancestors(step):
                return False, None
            return True, reference.resolve(None)
        candidate = self._graph.nodes[source].artifacts("outputs")[output]
        assert candidate is not None
        manifest = self._store.manifest(record.outputs[output])
        return True, reference.resolve(manifest.subtree_digest(candidate.served_subtree))

    def _stopping_verdict(self, name: str) -> Reason | None:
        for gate in self._graph.gates_before(name):
            record = self.record(gate)
            if record is not None and record.verdict is not None and not record.verdict.passed:
                return Reason("verdict", f"stopped by {gate}: {record.verdict.sentence}")
        return None

    def _effect(self, node: Node, plan: StepPlan) -> StepPlan:
        if plan.key is None:
            return plan
        assert node.component.effect is not None
        state = node.component.effect(node.component.Inputs(**plan.bound), node.params)
        action = Action.RUN if state.needed or node.name in self._force else Action.KEEP
        return dataclasses.replace(plan, action=action, reasons=(Reason("effect", state.sentence),))

    def _why_run(
        self, node: Node, plan: StepPlan, previous: StepRecord | None
    ) -> tuple[Reason, ...]:
        if node.name in self._force:
            return (Reason("forced", "forced"),)
        if plan.key is None:
            return plan.reasons
        if previous is None:
            return (Reason("new", "never run here"),)
        if previous.key == plan.key:
            return (Reason("gone", "its result is gone from the store"),)
        return tuple(_differences(previous.parts, plan.parts))


def make_plan(graph: Graph, store: Store, selection: Selection | None = None) -> Plan:
    """Plan all selected steps; reads the store and the outside world, changes neither.

    Raises:
        ConfigError: a selected step does not exist.
        StoreError: a cached object is damaged.
    """
    selection = selection or Selection()
    planner = Planner(graph, store, force=selection.force)
    plan = Plan(tuple(planner.step(name) for name in selection.steps(graph)))
    planner.save()
    return plan


_LABELS = {
    "code": "code changed",
    "inputs": "new input",
    "outside": "outside changed",
    "files": "file changed",
}


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Reason]:
    reasons = []
    for part, label in _LABELS.items():
        changed = [name for name, _, _ in differences(before[part], after[part])]
        if part == "code":
            changed = [_file_of(name) for name in changed]
        if part == "outside":  # names come and go: a new span pushes the oldest out of the window
            gone = [name for name in changed if name not in after[part]]
            changed = [n for n in changed if n not in gone] + [f"{n} is gone" for n in gone]
        if changed:
            sentence = f"{label}: {', '.join(changed[:3])}"
            if len(changed) > 3:
                sentence += f" and {len(changed) - 3} more"
            reasons.append(Reason(part.removesuffix("s"), sentence))
    for name, old, new in differences(before["params"], after["params"]):
        reasons.append(Reason("params", f"{name}: {canonical(old)} -> {canonical(new)}"))
    for name, old, new in differences(before["environment"], after["environment"]):
        library = "Python" if name == "python" else name
        reasons.append(Reason("environment", f"{library} {old or 'none'} -> {new or 'none'}"))
    return reasons or [Reason("new", "another component")]


def _file_of(module: str) -> str:
    """The file of a first-party module, for people."""
    path = module.removeprefix("bnpipe.").replace(".", "/")
    return f"{path}/__init__.py" if (ROOT / path).is_dir() else f"{path}.py"
