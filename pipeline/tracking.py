"""A run in MLflow: parameters, metrics, curves, files, and the published model as a version.

An optional extra (`pip install bnpipe[mlflow]`). The records under `runs/` stay the truth: MLflow
is told after a run has ended or a label has moved, a failure to tell it never fails anything, and
telling it twice changes nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.pipeline.engine.errors import ConfigError, one_line
from bnpipe.pipeline.engine.fingerprint import digest_of, flat
from bnpipe.pipeline.engine.runs import RunFolder
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, versions

Json = Mapping[str, Any]

_RUN_TAG = "bnpipe.run"
_PARAMS_AT_ONCE = 100  # MLflow's limits for one call
_METRICS_AT_ONCE = 1000
_LONGEST_VALUE = 500
_STATUS = {"succeeded": "FINISHED", "stopped": "FINISHED"}
_FILES = ("run.json", "report.json", "config.yaml", "plan.json", "report.html")


@dataclass(frozen=True)
class Point:
    """One value of a metric; `step` is an epoch, 0 where there are none."""

    name: str
    value: float
    step: int = 0


def track(store: Store, folder: RunFolder, uri: str, experiment: str) -> str:
    """Tell MLflow of a run that has ended.

    Args:
        store: the run's store.
        folder: the run.
        uri: of the tracking server, e.g. `http://127.0.0.1:5000`.
        experiment: its name there; made when it is new.

    Returns:
        The run's id in MLflow.

    Raises:
        ConfigError: the run is still at work, or MLflow is not installed.
        ServingError: MLflow cannot be reached, or refuses.
    """
    report = folder.ended_report()
    with _asking(uri, f"tell it later: bnpipe track {folder.id}") as client:
        return _send(client, store, folder, report, experiment)


def track_quietly(store: Store, folder: RunFolder, uri: str, experiment: str) -> str | None:
    """As `track`, for the end of a run: what went wrong is returned and not raised."""
    try:
        track(store, folder, uri, experiment)
    except Exception as error:  # the boundary to MLflow: the run has ended, whatever this is
        return one_line(error)
    return None


def follow_live(base: Path, uri: str | None) -> str | None:
    """Move the alias `live` to the version that is live; a version unknown there takes it away.

    Like `track_quietly` it raises nothing: labels have moved, whatever MLflow says.

    Args:
        base: the served folder.
        uri: of the tracking server; None for none.

    Returns:
        What went wrong; None if nothing did.
    """
    if uri is None:
        return None
    try:
        with _asking(uri) as client:
            _move_alias(client, base)
    except Exception as error:  # the boundary to MLflow
        return one_line(error)
    return None


def _move_alias(client: Any, base: Path) -> None:
    version, name = versions.live(base), base.name
    entry = ledger.read(base).entry(version) if version is not None else None
    known = client.search_model_versions(f"name = '{name}'")
    same = [
        v.version
        for v in known
        if entry is not None
        and v.tags.get("bnpipe.version") == str(version)
        and v.tags.get("bnpipe.digest") == entry.digest
    ]
    if same:
        client.set_registered_model_alias(name, "live", max(same, key=int))
    elif known:
        client.delete_registered_model_alias(name, "live")


@contextmanager
def _asking(uri: str, hint: str = "") -> Iterator[Any]:
    """A client of a tracking server, whose errors are ours.

    Raises:
        ConfigError: MLflow is not installed.
        ServingError: it cannot be reached, or refuses.
    """
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise ConfigError(
            "tracking.mlflow is set, and MLflow is not installed",
            hint="pip install mlflow-skinny, or --set tracking.mlflow=null",
        ) from None
    # By default a server that is down or hangs would hold up the end of a run for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        yield MlflowClient(tracking_uri=uri)
    except (MlflowException, OSError) as error:  # requests' errors are OSErrors
        line = " ".join(str(error).split())[:200]
        raise ServingError(f"MLflow at {uri}: {line}", hint=hint) from error


def _send(client: Any, store: Store, folder: RunFolder, report: Json, experiment: str) -> str:
    from mlflow.entities import Metric, Param

    place = client.get_experiment_by_name(experiment)
    number = place.experiment_id if place else client.create_experiment(experiment)
    # The same number in another home is another run; so is a number that was used again.
    mark = f"{folder.id}-{digest_of([str(store.home), report['started']])[:12]}"
    known = client.search_runs([number], f"tags.`{_RUN_TAG}` = '{mark}'")
    complete = [run for run in known if run.info.status != "RUNNING"]
    if complete:
        return str(complete[0].info.run_id)
    for half_told in known:  # something ended us in the middle
        client.delete_run(half_told.info.run_id)
    started = int(1000 * report["started"])
    run = client.create_run(
        number, start_time=started, run_name=f"{report['dataset']} {folder.id}", tags={
            _RUN_TAG: mark, **tags(report)
        },
    )  # fmt: skip
    run_id = str(run.info.run_id)
    params = [Param(name, value) for name, value in parameters(report)]
    for at in range(0, len(params), _PARAMS_AT_ONCE):
        client.log_batch(run_id, params=params[at : at + _PARAMS_AT_ONCE])
    points = [*metrics(report), *curves(store, report)]
    measured = [Metric(p.name, p.value, started, p.step) for p in points]
    for at in range(0, len(measured), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=measured[at : at + _METRICS_AT_ONCE])
    for name in _FILES:
        if (folder.path / name).exists():
            client.log_artifact(run_id, str(folder.path / name))
    _register(client, run, report)
    ended = started + int(1000 * report["seconds"])
    client.set_terminated(run_id, _STATUS.get(report["status"], "FAILED"), end_time=ended)
    return run_id


def _register(client: Any, run: Any, report: Json) -> None:
    """The published SavedModel as a version of a registered model, if the run published one."""
    pushed = report.get("pushed") or {}
    folder = Path(str(pushed.get("path", "")))
    if not pushed.get("new") or not folder.is_dir():
        return
    from mlflow.exceptions import MlflowException

    name = folder.parent.name
    client.log_artifacts(run.info.run_id, str(folder), "model")
    with suppress(MlflowException):  # it exists; if that is not why, the next call tells
        client.create_registered_model(name)
    client.create_model_version(
        name, f"{run.info.artifact_uri}/model", run.info.run_id, tags={
            "bnpipe.version": str(pushed["version"]), "bnpipe.digest": str(pushed["digest"])
        },
    )  # fmt: skip
    _move_alias(client, folder.parent)


def tags(report: Json) -> dict[str, str]:
    """The tags that a run can be searched by."""
    verdict = report.get("verdict")
    values = {
        "bnpipe.status": report["status"],
        "bnpipe.dataset": report["dataset"],
        "bnpipe.config_digest": report.get("config_digest"),
        "bnpipe.verdict": verdict["sentence"] if verdict else None,
        "bnpipe.passed": str(verdict["passed"]).lower() if verdict else None,
        "bnpipe.version": (report.get("pushed") or {}).get("version"),
        "bnpipe.error": report.get("error"),
        **{f"bnpipe.{name}": value for name, value in (report.get("provenance") or {}).items()},
    }
    return {
        name: str(value)[:_LONGEST_VALUE] for name, value in values.items() if value is not None
    }


def parameters(report: Json) -> Iterator[tuple[str, str]]:
    """The configuration, as dotted names and texts."""
    for name, value in flat(report.get("config") or {}):
        yield _clean(name), value[:_LONGEST_VALUE]


def metrics(report: Json) -> Iterator[Point]:
    """Every metric of the evaluator, by model, and the seconds of every step."""
    for model, scores in (report.get("evaluation") or {}).get("models", {}).items():
        for name, value in scores.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                yield Point(_clean(f"{model}/{name}"), float(value))
    for step in report["steps"]:
        if step["action"] == "run":
            yield Point(_clean(f"seconds/{step['name']}"), float(step["seconds"]))
    yield Point("seconds/total", float(report["seconds"]))


def curves(store: Store, report: Json) -> Iterator[Point]:
    """Losses and accuracies by epoch, of every model that was trained."""
    for step in report["steps"]:
        digest = step["outputs"].get("model")
        if digest is None:
            continue
        with suppress(OSError, ValueError, KeyError):
            history = json.loads((store.object_path(digest) / "history.json").read_text())
            for number, epoch in enumerate(history["epochs"], start=1):
                for name, value in epoch.items():
                    if name != "epoch" and isinstance(value, int | float):
                        yield Point(_clean(f"{step['name']}/{name}"), float(value), number)


def _clean(name: str) -> str:
    """A name as MLflow allows them."""
    return re.sub(r"[^\w\-. /]", "_", name)[:250]
