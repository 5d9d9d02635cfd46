"""Publishes a finished run's model by hand, which a plain run would not, or not any more."""

from __future__ import annotations

from typing import Any

from bnpipe.components import pusher
from bnpipe.components.artifacts import Blessing, InfraBlessing, Model
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode, PipelineError
from bnpipe.pipeline.engine.runs import RunFolder, find_run
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.folder.publish import Published

CANDIDATE, JUDGE, TRIAL = "trainer", "evaluator", "infra_validator"


class NotBlessed(PipelineError):
    """A gate refused the model that was to be published."""

    exit_code = ExitCode.VERDICT


def push(store: Store, run: RunFolder, params: pusher.Params, *, force: str | None) -> Published:
    """Publish the candidate of a run.

    Args:
        store: where the run's artifacts lie.
        run: a run that trained and evaluated, or answered both from the cache.
        params: where to publish.
        force: why, if the model is not blessed or was withdrawn.

    Raises:
        ConfigError: the run has no model or no blessing.
        NotBlessed: a gate refused the model, and there is no `force`.
        StoreError: an artifact is damaged.
        ServingError: see `components.pusher.publish_model`.
    """
    steps = {s["name"]: s for s in run.summary()["steps"]}
    made = store.lookup(str(steps.get(CANDIDATE, {}).get("key")))
    trained = find_run(store, made.run) if made else run
    digests = {
        "model": _output(run, steps, CANDIDATE, "model"),
        "blessing": _output(run, steps, JUDGE, "blessing"),
    }
    # Whoever forces a model that the evaluator refused has no trial of it.
    if TRIAL in steps and (force is None or "infra_blessing" in steps[TRIAL]["outputs"]):
        digests["infra_blessing"] = _output(run, steps, TRIAL, "infra_blessing")
    folders = {name: store.require(digest, deep=True) for name, digest in digests.items()}
    blessing = Blessing(f"{JUDGE}.blessing", folders["blessing"])
    trial = None
    if "infra_blessing" in folders:
        trial = InfraBlessing(f"{TRIAL}.infra_blessing", folders["infra_blessing"])
    for verdict in (gate.verdict() for gate in (blessing, trial) if gate is not None):
        if not verdict.passed and force is None:
            raise NotBlessed(verdict.sentence, hint=f"bnpipe push {run.id} --force --reason WHY")
    return pusher.publish_model(
        Model(f"{CANDIDATE}.model", folders["model"]),
        blessing,
        params,
        infra_blessing=trial,
        run=run.id,
        code=trained.summary().get("provenance", {}),
        digests=digests,
        force=force,
    )


def _output(run: RunFolder, steps: dict[str, Any], step: str, field: str) -> str:
    digest = steps.get(step, {}).get("outputs", {}).get(field)
    if digest is None:
        raise ConfigError(
            f"run {run.id} has no {field} of {step}", hint="name another run: bnpipe runs"
        )
    return str(digest)
