"""Publishes a blessed model to the served folder, as a version that TF Serving loads.

An effect step: it is never answered from the step cache. What it would do is read off the served
folder itself, so a model that is live already is left alone, and one that was rolled back is held
back until somebody pushes it by force.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from bnpipe.components.artifacts import Blessing, InfraBlessing, Model, PushedModel, VerdictArtifact
from bnpipe.components.base import Component, Context, Effect, Facts, machine_local
from bnpipe.data.json_text import json_text
from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import ledger, object_store, server_files, standing
from bnpipe.serving.folder.names import default_model_name
from bnpipe.serving.folder.publish import Published, publish
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.folder.server_files import ServerFiles
from bnpipe.serving.folder.signing import Verifier, load_keys, load_verifier


@dataclass(frozen=True)
class Inputs:
    """A model, the evaluator's word on it, and the infra validator's where there is one."""

    model: Model
    blessing: Blessing
    infra_blessing: InfraBlessing | None = None


@dataclass(frozen=True)
class Outputs:
    """The record of the push."""

    pushed: PushedModel


@dataclass(frozen=True, kw_only=True)
class Params:
    """The served folder, the servers that follow it, and the keys."""

    base_path: str = machine_local("")
    """Folder of the numbered versions; the runner's default is `.bnpipe/served/<model name>`."""

    model_name: str = ""
    """Name in request URLs; empty takes the data set's."""

    keep_versions: Annotated[int, Ge(1)] = 5
    """Old versions to keep, besides those that are live or can be rolled back to at once."""

    servers: tuple[str, ...] = machine_local(())
    """Addresses of the running servers, which load a version before it becomes live."""

    server_wait_seconds: Annotated[float, Ge(0)] = machine_local(60.0)
    """The longest that a server may take to load a version, in seconds."""

    signing_key: str = machine_local("")
    """Private key (PEM; P-256, P-384 or P-521) that versions are signed with; empty for none."""

    verify_keys: tuple[str, ...] = machine_local(())
    """Public keys (PEM); empty takes the one that belongs to the signing key."""

    canary: bool = machine_local(False)
    """Makes a new version only the canary at first; the servers must be named then."""

    store_url: str = machine_local("")
    """Object store that the folder is mirrored to, gs://BUCKET/PATH or the like; empty for none."""

    server_files: ServerFiles = machine_local(ServerFiles())
    """The server's configuration for monitoring and batching."""


def effect(inputs: Inputs, params: Params) -> Effect:
    """The effect that publishing would have, from the served folder and the keys alone."""
    digest = tree_digest(inputs.model.saved_model)
    base = _base_path(params)
    state = standing.state_of(base, digest, load_verifier(params.signing_key, ()))
    is_live = not state.needed and digest not in ledger.read(base).withdrawn
    if is_live and params.store_url and not object_store.is_mirrored(base, params.store_url):
        return Effect(True, f"publish (finish the upload to {params.store_url})")
    return Effect(state.needed, state.sentence)


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Publish the model.

    Raises:
        ServingError: a blessing did not pass or is another model's, the live version is no
            longer the one that the model was compared with, the folder refuses it, or the running
            server cannot load it (then it is withdrawn) or does not answer in time.
    """
    published = publish_model(
        inputs.model,
        inputs.blessing,
        params,
        infra_blessing=inputs.infra_blessing,
        run=ctx.run_id,
        code=ctx.provenance,
        digests=ctx.input_digests,
    )
    base = str(_base_path(params))
    pushed: Facts = {
        "version": published.version,
        "label": "stable" if published.live else "canary",
        "base_path": base,
        "digest": published.digest,
    }
    (outputs.pushed.path / "pushed.json").write_text(json_text(pushed, indent=2) + "\n")
    return {**pushed, "new": published.new, "removed": _prune(params, ctx)}


COMPONENT = Component("pusher", Inputs, Outputs, Params, run, effect=effect)


def publish_model(
    model: Model,
    blessing: Blessing,
    params: Params,
    *,
    infra_blessing: InfraBlessing | None,
    run: str,
    code: Mapping[str, str],
    digests: Mapping[str, str],
    force: str | None = None,
) -> Published:
    """Publish a model with its provenance.

    Args:
        model: what to publish.
        blessing: the evaluator's word on it.
        params: where to.
        infra_blessing: the infra validator's word on it; None if nobody tried to serve it.
        run: the run that made the model.
        code: code, lock and config digests.
        digests: digests of model and blessings.
        force: why the model is published although it is not blessed, or was withdrawn, or another
            version went live since; recorded in the ledger. None for a plain push.

    Raises:
        ServingError: see `run`; with `force`, only when a blessing is another model's, the
            folder refuses it, or the running server cannot load it or does not answer in time.
    """
    base = _base_path(params)
    signer, verifier = load_keys(params.signing_key, params.verify_keys)
    if verifier is not None and signer is None:
        raise ServingError(
            "serving.verify_key is set, but the version would be unsigned",
            hint="set serving.signing_key",
        )
    digest = tree_digest(model.saved_model)
    verdict = _blessing(blessing, digest, force)
    trial = _blessing(infra_blessing, digest, force) if infra_blessing else None
    dataset = _read(model, "model_card.json").get("dataset")
    if not isinstance(dataset, dict) or "name" not in dataset:
        raise ServingError(
            f"{model.producer}: model_card.json: expected a dataset with a name, "
            f"received {json_text(dataset)}"
        )
    rollout = _rollout(params, verifier)
    rollout.check()
    published = publish(
        base,
        model.saved_model,
        model_name=params.model_name or default_model_name(dataset["name"]),
        provenance={
            "run": run,
            "code": dict(code),
            "inputs": dict(digests),
            "dataset": dataset,
            "verdict": verdict.get("sentence", ""),
            "trial": {k: trial.get(k) for k in ("sentence", "server", "weaker")} if trial else None,
            "metrics": {rule["name"]: rule["value"] for rule in verdict.get("rules", [])},
        },
        compared_with=_champion_version(base, verdict, digest, force),
        force=force,
        expected=digest,
        hold=bool(params.servers),
        signer=signer,
    )
    server_files.write(base, params.server_files)
    return rollout.finish(published)


def _rollout(params: Params, verifier: Verifier | None = None) -> Rollout:
    """The servers and the store that follow the folder."""
    return Rollout(
        _base_path(params),
        params.servers,
        params.server_wait_seconds,
        verifier,
        params.store_url,
        params.canary,
    )


def _base_path(params: Params) -> Path:
    if not params.base_path:
        raise ServingError("serving.base_path is empty: expected the folder of the versions")
    return Path(params.base_path).absolute()


def _read(artifact: Model | VerdictArtifact, name: str) -> Mapping[str, Any]:
    """A JSON object of an artifact."""
    try:
        value = artifact.read_json(name)
    except (OSError, ValueError) as error:
        raise ServingError(f"{artifact.producer}: cannot read {name}: {error}") from error
    if not isinstance(value, dict):
        raise ServingError(f"{artifact.producer}: {name}: expected an object, received {value!r}")
    return value


def _blessing(artifact: VerdictArtifact, digest: str, force: str | None) -> Mapping[str, Any]:
    """The verdict of a gate on the model; only one on these very bytes counts."""
    blessing = _read(artifact, artifact.verdict_file)
    if blessing.get("passed") is not True and force is None:
        raise ServingError(f"the model is not blessed: {blessing.get('sentence', 'no verdict')}")
    if blessing.get("model") != digest:
        raise ServingError(
            f"the blessing is for another model: expected digest {digest[:12]}, "
            f"received {str(blessing.get('model'))[:12]}",
            hint="evaluate again: bnpipe run --force evaluator",
        )
    return blessing


def _champion_version(
    base: Path, blessing: Mapping[str, Any], digest: str, force: str | None
) -> int | None:
    """The version in this folder that the model was compared with.

    Raises:
        ServingError: another version went live since; the comparison says nothing about it.
    """
    champion = blessing.get("champion")
    now = standing.champion(base, None)
    if champion is None:
        if now is None or now.digest == digest or force is not None:
            return None
        raise ServingError(
            f"the model was compared with no champion, but v{now.version} is live",
            hint="compare with that one: bnpipe run",
        )
    if force is not None and (now is None or now.digest != champion["digest"]):
        return None
    if now is None or now.digest not in (champion["digest"], digest):
        raise ServingError(
            f"the live version changed while this run was at work: the model was compared with "
            f"v{champion['version']}, live is {f'v{now.version}' if now else 'none'}",
            hint="compare with that one: bnpipe run",
        )
    return now.version if now.digest == champion["digest"] else int(champion["version"])


def _prune(params: Params, ctx: Context) -> int:
    """Retention; the model is live, so a fault here is a warning."""
    try:
        return len(_rollout(params).prune(params.keep_versions))
    except ServingError as error:
        ctx.log.warning("old versions were not removed: %s", error)
        return 0
