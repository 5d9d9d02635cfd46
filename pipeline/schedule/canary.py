"""The canary of a scheduled run: soaked, then promoted or withdrawn, without anybody looking."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.configuration.duration import parse_duration
from bnpipe.pipeline.configuration.publishing import rollout, served_folder
from bnpipe.pipeline.engine.errors import ExitCode, StoreError
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.schedule.outcome import Result
from bnpipe.pipeline.schedule.work import Ran
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, versions

_PROBES = 500
"""Different images that are sent, at most."""


def on_trial(config: Config, home: Path) -> int | None:
    """The version that waits for its soak; None if there is none, or nobody wants one."""
    if config.serving.rollout != "canary":
        return None
    return versions.on_trial(served_folder(config, home))


def try_canary(config: Config, store: Store, run: Mapping[str, Any]) -> Ran:
    """Soak the canary and promote or withdraw it.

    Killed at any point, the version is still the canary, or is live or withdrawn and the ledger
    says so: the next attempt goes on from there.

    Args:
        config: the configuration.
        store: the home's store.
        run: a run's summary; the test images that it evaluated on are the probes.

    Raises:
        ServingError: the server answers for neither version, does not know the canary in time, or
            somebody moved the label.
        StoreError: the run's images are gone.
        DataError: they are damaged.
    """
    from bnpipe.serving.client.base import Options
    from bnpipe.serving.client.connect import connect
    from bnpipe.serving.client.soak import Limits, soak

    target = rollout(config, store.home)
    version = versions.on_trial(target.base)
    entry = ledger.read(target.base).entry(version) if version is not None else None
    if version is None or entry is None:
        raise ServingError(f"{target.base} has no canary", hint="bnpipe versions list")
    features = _features(store, run)
    rules = Limits(
        seconds=parse_duration(config.canary.soak).total_seconds(),
        rate=config.canary.rate,
        min_agreement=config.canary.min_agreement,
        max_error_difference=config.canary.max_error_difference,
        max_latency_ratio=config.canary.max_latency_ratio,
    )
    # A server that does not know the label yet would fail every probe of a good version.
    target.confirm(version, label="canary")
    with connect(target.servers[0], entry.model_name, Options(timeout=5, attempts=1)) as client:
        soaked = soak(
            client,
            features,
            rules,
            still_canary=lambda: versions.on_trial(target.base) == version,
        )
    if soaked.passed:
        target.promote(version)
        return _promoted(run, version, f": {soaked.sentence}")
    target.withdraw(version, reason=soaked.sentence)
    return _withdrawn(run, version, soaked.sentence)


def decided(config: Config, home: Path, run: Mapping[str, Any]) -> Ran | None:
    """The end of the canary that a run published, if its soak is over already.

    Raises:
        ServingError: the served folder cannot be read.
    """
    pushed = run.get("pushed") or {}
    if pushed.get("label") != "canary":
        return None
    base, version = served_folder(config, home), int(pushed["version"])
    digest = str(pushed["digest"])
    if versions.live(base) == version:
        return _promoted(run, version)
    withdrawal = ledger.read(base).withdrawn.get(digest)
    if withdrawal is None:
        return None
    rollout(config, home).complete()  # else, after a kill, servers would go on with it
    return _withdrawn(run, version, withdrawal.reason)


def _promoted(run: Mapping[str, Any], version: int, why: str = "") -> Ran:
    sentence = f"v{version} is live after its soak{why}"
    return Ran(sentence=sentence, result=Result.PUSHED, run=str(run["id"]), version=version)


def _withdrawn(run: Mapping[str, Any], version: int, why: str) -> Ran:
    return Ran(
        exit_code=ExitCode.VERDICT,
        sentence=f"v{version} is withdrawn: {why}",
        result=Result.WITHDRAWN,
        run=str(run["id"]),
        version=version,
    )


def _features(store: Store, run: Mapping[str, Any]) -> Any:
    """float32[N, D]: images of the test split that the evaluator judged by, evenly spread."""
    import numpy as np

    from bnpipe.components.artifacts import TransformedExamples
    from bnpipe.data.records.examples import read_transformed

    for step in run["steps"]:
        digest = step["outputs"].get("transformed")
        if digest is not None:
            examples = TransformedExamples(step["name"], store.object_path(digest))
            features = read_transformed(examples.shards("test")).features
            return features[np.unique(np.linspace(0, len(features) - 1, _PROBES).astype(int))]
    raise StoreError(f"run {run['id']} has no images to probe with", hint="bnpipe run")
