"""Runs in MLflow: what they are told as, and that a real server takes it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from bnpipe.pipeline import tracking
from bnpipe.pipeline.configuration.config import from_values
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.engine.lock import run_locks
from bnpipe.pipeline.tracking import curves, metrics, parameters, tags, track
from bnpipe.serving.folder import labels
from tests.child import environment
from tests.on_top import interpreter_with
from tests.pipeline.report.finished_run import Home
from tests.serving.folder.served import push, saved_model


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_what_a_run_is_told_as(home: Home) -> None:
    run = home.finish("0001")
    report = run.report()
    assert ("trainer.epochs", "3") in list(parameters(report))
    points = {p.name: p.value for p in metrics(report)}
    assert points["candidate/accuracy"] == report["evaluation"]["models"]["candidate"]["accuracy"]
    assert points["seconds/total"] == report["seconds"]
    epochs = [p.step for p in curves(home.store, report) if p.name == "trainer/train_loss"]
    assert epochs == [1, 2, 3]
    assert tags(report)["bnpipe.passed"] == "false"
    assert all(isinstance(value, str) and len(value) <= 500 for value in tags(report).values())


def test_names_are_such_as_mlflow_takes(home: Home) -> None:
    report = home.finish("0001").report() | {"config": {"a<b>": {"c:d\n": None}}}
    assert list(parameters(report)) == [("a_b_.c_d_", "-")]


def test_a_run_at_work_is_not_told(home: Home) -> None:
    run = home.fail("0001", "running", None)
    with run_locks(home.store.home) as locks:
        locks.begin(run.id)
        with pytest.raises(ConfigError, match="still at work"):
            track(home.store, run, "http://127.0.0.1:9", "x")


def test_without_mlflow_the_hint_says_how_to_get_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ConfigError, match="MLflow is not installed") as told:
        track(home.store, home.finish("0001"), "http://127.0.0.1:9", "x")
    assert "pip install" in (told.value.hint or "")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as told:
        from_values({"tracking": {"mlflow": "https://user:T0KEN@mlflow.example"}})
    assert "T0KEN" not in str(told.value)


def test_whatever_mlflow_does_is_a_sentence_at_the_end_of_a_run(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> str:
        raise KeyError("no such thing")

    monkeypatch.setattr(tracking, "track", broken)
    told = tracking.track_quietly(home.store, home.finish("0001"), "http://127.0.0.1:9", "x")
    assert told is not None and "no such thing" in told


def test_no_alias_is_asked_for_without_a_tracking_server(tmp_path: Path) -> None:
    assert tracking.follow_live(tmp_path / "nothing is here", None) is None


def test_an_alias_that_cannot_follow_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    told = tracking.follow_live(tmp_path, "http://127.0.0.1:9")
    assert told is not None and "MLflow is not installed" in told


def test_the_alias_follows_what_is_live_and_not_the_run_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old run is told after another version went live."""
    base = tmp_path / "digits"
    old, new = (push(base, saved_model(tmp_path / c, c)) for c in "ab")
    known: list[Any] = []

    def create(name: str, *_: Any, tags: Any) -> Any:
        known.append(SimpleNamespace(version=str(10 + len(known)), tags=tags))
        return known[-1]

    alias: list[str] = []
    client = MagicMock(create_model_version=create, search_model_versions=lambda _: known)
    client.set_registered_model_alias = lambda name, which, version: alias.append(version)
    mlflow = SimpleNamespace(MlflowException=RuntimeError)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(exceptions=mlflow))
    monkeypatch.setitem(sys.modules, "mlflow.exceptions", mlflow)
    for done in (new, old):
        pushed = {"path": str(done.path), "version": done.version, "digest": done.digest}
        tracking._register(client, MagicMock(), {"pushed": {**pushed, "new": True}})
    assert alias == ["10", "10"]


# A real MLflow

FOLLOW = """
import sys
from pathlib import Path
from bnpipe.pipeline.tracking import follow_live
problem = follow_live(Path(sys.argv[1]), sys.argv[2])
assert problem is None, problem
"""
TELL = """
import sys
from pathlib import Path
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.tracking import track
store = Store(Path(sys.argv[1]))
print(track(store, find_run(store, sys.argv[2]), sys.argv[3], "digits"))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with MLflow on top of what the tests run with."""
    return interpreter_with(tmp_path_factory.mktemp("mlflow") / "env", "mlflow>=3,<4")


@pytest.fixture
def server(python: Path, tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stored = ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    files = ["--artifacts-destination", str(tmp_path / "artifacts")]
    with (tmp_path / "server.log").open("w") as log:
        child = subprocess.Popen(
            [python, "-m", "mlflow", "server", *where, *stored, *files],
            env=environment(), stdout=log, stderr=log, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
        try:
            uri = f"http://127.0.0.1:{port}"
            for _ in range(240):
                assert child.poll() is None, (tmp_path / "server.log").read_text()
                try:
                    urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield uri
        finally:
            os.killpg(child.pid, 15)
            child.wait(timeout=60)


def ask(uri: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/{path}",
        data=json.dumps(body).encode() if body else None,
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_real_mlflow_shows_the_run_once(
    python: Path, server: str, home: Home, tmp_path: Path
) -> None:
    run = home.finish("0001")
    served = tmp_path / "served" / "digits" / "4"
    (served / "variables").mkdir(parents=True)
    (served / "saved_model.pb").write_bytes(b"graph")
    (served / "variables" / "variables.index").write_bytes(b"numbers")
    path = run.path / "report.json"
    pushed = {"path": str(served), "version": 4, "digest": "d" * 64, "new": True}
    report = run.report() | {"pushed": pushed}
    path.write_text(json.dumps(report))

    def tell() -> str:
        words = [python, "-c", TELL, str(home.store.home), "1", server]
        told = subprocess.run(words, env=environment(), capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        return told.stdout.split()[-1]

    first = tell()
    assert tell() == first
    place = ask(server, "experiments/get-by-name?experiment_name=digits")["experiment"]
    (found,) = ask(server, "runs/search", experiment_ids=[place["experiment_id"]])["runs"]
    assert found["info"]["status"] == "FINISHED"
    measured = {m["key"]: m["value"] for m in found["data"]["metrics"]}
    accuracy = report["evaluation"]["models"]["candidate"]["accuracy"]
    assert measured["candidate/accuracy"] == pytest.approx(accuracy)
    assert {"key": "trainer.epochs", "value": "3"} in found["data"]["params"]
    losses = ask(server, f"metrics/get-history?run_id={first}&metric_key=trainer/train_loss")
    assert [int(m["step"]) for m in losses["metrics"]] == [1, 2, 3]
    files = ask(server, f"artifacts/list?run_id={first}")["files"]
    assert {"report.json", "run.json", "model"} <= {f["path"] for f in files}
    (version,) = ask(server, "registered-models/get-latest-versions", name="digits")[
        "model_versions"
    ]
    assert (version["run_id"], version["status"]) == (first, "READY")
    assert {"key": "bnpipe.version", "value": "4"} in version["tags"]
    kept = list((tmp_path / "artifacts").rglob("saved_model.pb"))
    assert [p.read_bytes() for p in kept] == [b"graph"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_alias_of_a_real_mlflow_follows_rollback_and_promote(
    python: Path, server: str, home: Home, tmp_path: Path
) -> None:
    base = tmp_path / "served" / "digits"

    def tell(run: str, content: str, label: str) -> None:
        folder = home.finish(run)
        model = saved_model(tmp_path / content, content)
        done = push(base, model, hold=label == "canary")
        if label == "canary":
            labels.promote(base, done.version, label="canary")
        pushed = {"version": done.version, "digest": done.digest, "label": label, "new": True}
        report = folder.report() | {"pushed": {"path": str(done.path), **pushed}}
        (folder.path / "report.json").write_text(json.dumps(report))
        words = [python, "-c", TELL, str(home.store.home), run, server]
        told = subprocess.run(words, env=environment(), capture_output=True, text=True)
        assert told.returncode == 0, told.stderr

    def alias() -> str | None:
        words = [python, "-c", FOLLOW, str(base), server]
        told = subprocess.run(words, env=environment(), capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        return at()

    def at() -> str | None:
        place = "registered-models/alias?name=digits&alias=live"
        try:
            found = ask(server, place)["model_version"]
        except urllib.error.HTTPError:
            return None
        return next(t["value"] for t in found["tags"] if t["key"] == "bnpipe.version")

    tell("0001", "a", "stable")
    tell("0002", "b", "stable")
    assert at() == "2"
    tell("0003", "c", "canary")
    assert at() == "2"  # it is not live yet
    labels.promote(base, 3)
    assert alias() == "3"
    labels.rollback(base, reason="bad", to=1)
    assert alias() == "1"
    push(base, saved_model(tmp_path / "d", "d"))  # of which MLflow was told nothing
    assert alias() is None
    tell("0005", "e", "stable")
    assert at() == "5"
    tell("0004", "f", "canary")  # and of an old run
    labels.rollback(base, reason="bad", to=1)
    tell("0006", "g", "canary")
    assert at() == "1"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_server_that_is_down_is_one_line(python: Path, home: Home) -> None:
    home.finish("0001")
    shutil.rmtree(home.store.home / "objects")
    words = [python, "-c", TELL, str(home.store.home), "1", "http://127.0.0.1:9"]
    told = subprocess.run(words, env=environment(), capture_output=True, text=True)
    last = told.stderr.strip().splitlines()[-1]
    assert last.startswith("bnpipe.serving.errors.ServingError: MLflow at http://127.0.0.1:9")
