"""Looks up served models: champion, what it was trained on, artifact and runs behind versions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bnpipe.data.plain_file import listed, read_plain
from bnpipe.pipeline.engine.graph import Resolved, Resolver
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import standing, versions


def champion_of(served: Path) -> Resolver:
    """A resolver for the model that a candidate must not be worse than.

    That is the live version; or, when the candidate itself is live or withdrawn, the version that
    it was compared with when it was pushed. So an unchanged rerun asks an unchanged question.
    """

    def resolve(candidate: str | None) -> Resolved | None:
        champion = standing.champion(served, candidate)
        if champion is None:
            return None
        return Resolved(champion.path, champion.digest, f"v{champion.version}")

    return resolve


def champion_statistics_of(served: Path, home: Path) -> Resolver:
    """A resolver for the statistics of the data that the champion was trained on.

    They lie in the store of the home that pushed it; elsewhere, or when they were collected, there
    is nothing to compare new data with.
    """
    store = Store(home)

    def resolve(candidate: str | None) -> Resolved | None:
        champion = standing.champion(served, candidate)
        digest = _statistics_behind(store, served, champion.version) if champion else None
        if champion is None or digest is None or not store.object_path(digest).is_dir():
            return None
        return Resolved(store.object_path(digest), digest, f"data of v{champion.version}")

    return resolve


def model_of_version(served: Path, home: Path, version: int) -> Resolver:
    """A resolver for the Model artifact that a served version was published from.

    What is served has no training weights; those lie in the store of the home that pushed it.
    """
    store = Store(home)

    def resolve(candidate: str | None) -> Resolved:
        """Raises ServingError when the version or its model is not there."""
        digest = versions.provenance_of(served, version).get("inputs", {}).get("model")
        if digest is None or not store.object_path(digest).is_dir():
            raise ServingError(
                f"the model behind v{version} of {served} is not in {home}",
                hint="choose a version that was published from this home: bnpipe versions",
            )
        return Resolved(store.object_path(digest), digest, f"v{version}")

    return resolve


def runs_behind(home: Path, served: Path) -> set[str]:
    """The runs that made the versions in the served folder, and in those within the home.

    Every data set's models live in the home; the configured folder may be elsewhere.
    """
    runs = set()
    for folder in {served, *(path for path in listed(home / "served") if path.is_dir())}:
        for version in versions.complete_versions(folder):
            with suppress(ServingError):  # put there by hand: no run of ours is behind it
                runs.add(str(versions.provenance_of(folder, version).get("run")))
    return runs


def run_behind(store: Store, source: Mapping[str, Any]) -> RunFolder | None:
    """The run that pushed a version, if that was a run of this home.

    Args:
        store: of this home.
        source: `versions.provenance_of` the version.
    """
    run = RunFolder(store.runs / str(source.get("run")))
    model = source.get("inputs", {}).get("model")
    # A run of the same number in another home made another model.
    return run if model is not None and _output(run, "trainer", "model") == model else None


def evaluation_behind(store: Store, served: Path, version: int) -> Path | None:
    """The Evaluation of the run that pushed a version; None when it is not in this home."""
    with suppress(ServingError):
        run = run_behind(store, versions.provenance_of(served, version))
        digest = _output(run, "evaluator", "evaluation") if run else None
        return store.object_path(digest) if digest else None
    return None


def _statistics_behind(store: Store, served: Path, version: int) -> str | None:
    """Digest of the statistics in the run that pushed a version, if that was a run of this home."""
    with suppress(ServingError):
        run = run_behind(store, versions.provenance_of(served, version))
        return _output(run, "statistics_gen", "statistics") if run else None
    return None


def _output(run: RunFolder, step: str, field: str) -> str | None:
    """Digest of an output of a run, if that is there and can be read."""
    try:
        summary = json.loads(read_plain(run.path / "run.json"))
        outputs = {each["name"]: each["outputs"] for each in summary["steps"]}
        digest = outputs.get(step, {}).get(field)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if digest is None else str(digest)
