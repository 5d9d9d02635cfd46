"""`bnpipe canary status` on a log as nginx writes it."""

import json
import os
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ExitCode
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger
from tests.serving.deploy.test_traffic import line, write
from tests.serving.folder.served import push, saved_model

FOLLOWED = 20  # seconds, within which every server knows of a new label


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    base = tmp_path / "served" / "mnist"
    Path("bnpipe.yaml").write_text(f"serving: {{base_path: '{base}', model_name: mnist}}")
    (tmp_path / "home/traffic").mkdir(parents=True)
    push(base, saved_model(tmp_path / "one", "one"))
    return base


def on_trial(base: Path, tmp_path: Path) -> None:
    push(base, saved_model(tmp_path / "two", "two"), hold=True)
    labels.promote(base, 2, label="canary")


def log(canary: list[str], at: float, name: str = "requests.jsonl") -> None:
    """Nine good answers of `stable` for each request of the canary's."""
    lines = []
    for status in canary:
        lines += [line("stable", time=at)] * 9
        lines += [line("canary", status, time=at)]
    write_at(lines, at, name)


def write_at(lines: list[dict[str, Any]], at: float, name: str = "requests.jsonl") -> None:
    os.utime(write(Path("home/traffic"), lines, name) / name, (at, at))


def test_a_canary_that_fails_real_requests(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(["500 : 200"] * 50, time.time() - 3600, "requests.jsonl.1")  # of another one, before
    on_trial(base, tmp_path)
    log(["200"] * 80 + ["500 : 200"] * 20, time.time() + FOLLOWED)
    assert call(["canary", "status"]) == ExitCode.OK
    table, said = capsys.readouterr().out.split("\nv2: ")
    rows = {row.split()[0]: row.split()[1:] for row in table.splitlines()}
    assert rows["stable"][:3] == ["900", "0", "0.00%"]
    assert rows["canary"][:3] == ["100", "20", "20.00%"]
    assert rows["canary"][-4:] == ["4", "ms", "4", "ms"]
    assert said.strip() == (
        "canary failed 20 of 99 requests after its first, stable 0 of 891 requests"
    )
    assert call(["canary", "status", "--json", "--exit-code"]) == ExitCode.ATTENTION
    value = json.loads(capsys.readouterr().out)
    assert (value["canary"], value["share"], value["verdict"]) == (2, 0.1, "fail")
    assert value["labels"]["canary"]["failed"] == 20


def test_a_canary_is_not_blamed_for_the_one_before_it(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_trial(base, tmp_path)
    push(base, saved_model(tmp_path / "three", "three"), hold=True)
    labels.promote(base, 3, label="canary")
    now = time.time()
    lines = [line("canary", "500 : 200", time=now + 5)] * 50  # servers have yet to follow
    write_at([*lines, line("canary", time=now + FOLLOWED)], now + FOLLOWED)
    assert call(["canary", "status", "--exit-code"]) == ExitCode.OK
    assert "v3: nothing is shown against canary in 1 requests" in capsys.readouterr().out


def test_a_label_that_is_given_again_keeps_the_evidence(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_trial(base, tmp_path)
    log(["500 : 200"] * 50, time.time() + FOLLOWED)

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(time.time() + 3600, tz)

    monkeypatch.setattr(ledger, "datetime", Later)
    labels.promote(base, 2, label="canary")
    assert call(["canary", "status", "--exit-code"]) == ExitCode.ATTENTION


def test_all_requests_are_for_the_canary(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_trial(base, tmp_path)
    at = time.time() + FOLLOWED
    write_at([line("canary", "500 : 200", time=at, share=1.0)] * 50, at)
    assert call(["canary", "status", "--exit-code"]) == ExitCode.OK
    assert "the share is 1: stable gets no requests to compare with" in capsys.readouterr().out


def test_a_canary_that_does_not(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_trial(base, tmp_path)
    log(["200"] * 100, time.time() + FOLLOWED)
    with Path("home/traffic/requests.jsonl").open("a") as file:
        file.write('{"time": 1')
    os.utime("home/traffic/requests.jsonl", (time.time() + FOLLOWED,) * 2)
    assert call(["canary", "status", "--exit-code"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "v2: nothing is shown against canary in 100 requests" in out
    assert "1 lines of the log are none of nginx's" in out


def test_there_is_no_canary(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(["500 : 200"] * 50, time.time())
    Path("home/traffic").rename("logs")
    words = ["canary", "status", "--json", "--exit-code", "--set", "deploy.traffic_log=logs"]
    assert call(words) == ExitCode.OK
    value = json.loads(capsys.readouterr().out)
    assert (value["canary"], value["verdict"]) == (None, None)
    assert value["sentence"] == "no version is on trial"
    assert value["labels"]["stable"]["requests"] == 450
    with pytest.raises(ServingError, match=r"there is no requests\.jsonl in"):
        call(["canary", "status"])
