"""`bnpipe schedule render`: files with which other schedulers find this home and its config."""

import ast
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bnpipe.data.errors import RequestError
from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule import child
from bnpipe.pipeline.schedule.render import KINDS
from tests.pipeline.report.many_runs import many_runs
from tests.serving.folder.served import closed


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BNPIPE_WEBHOOK_URL", "https://hooks.example/T0KEN")
    monkeypatch.setenv("BNPIPE_WEBHOOK_SECRET", "T0KEN")
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    monkeypatch.delenv("BNPIPE_CONFIG", raising=False)
    (tmp_path / "bnpipe.yaml").write_text("schedule: {cron: 0 3 * * *, time_limit: 2h}\n")
    return tmp_path


def written(kind: str, *words: str) -> dict[str, str]:
    assert call(["schedule", "render", "--kind", kind, "--image", "example/bnpipe:1", *words]) == 0
    return {path.name: path.read_text() for path in Path("schedule").iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_secrets_are_in_no_file(folder: Path, kind: str) -> None:
    assert written(kind) and not any("T0KEN" in text for text in written(kind).values())


def test_the_tick_finds_home_and_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNPIPE_CONFIG", "bnpipe.yaml")
    unit = written("systemd", "--set", "trainer.epochs=3")["bnpipe-retrain.service"]
    lines = unit.splitlines()
    assert f'Environment="BNPIPE_HOME={folder}/home"' in lines
    assert f'Environment="BNPIPE_CONFIG={folder}/bnpipe.yaml"' in lines
    assert f"WorkingDirectory={folder}" in lines
    assert f"TimeoutStartSec={2 * 3600 + 900}" in lines
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    words = ["-P", "-m", "bnpipe.pipeline", "retrain", "--due", "--set", "trainer.epochs=3"]
    written_words = shlex.split(start.removeprefix("ExecStart=:").replace("%%", "%"))
    assert written_words == [sys.executable, *words]


def test_a_checkout_may_lie_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = "/50% off/my $HOME/python"
    monkeypatch.setattr(child, "COMMAND", (python, "-P", "-m", "bnpipe.pipeline"))
    lines = written("systemd")["bnpipe-retrain.service"].splitlines()
    assert 'ExecStart=:"/50%% off/my $HOME/python" "-P" "-m" "bnpipe.pipeline"' in "\n".join(lines)
    line = written("cron")["bnpipe-retrain.crontab"].splitlines()[-1]
    assert r"'/50\% off/my $HOME/python' -P -m" in line and " 50%" not in line
    dag = written("airflow")["bnpipe_retrain.py"]
    assert "'/50% off/my $HOME/python' -P -m" in dag


def test_a_tick_is_left_the_time_for_all_that_it_does(folder: Path) -> None:
    canary = ("serving.rollout=canary", "canary.soak=1h", "canary.bake=30m")
    sets = (*canary, "schedule.triggers=[drift]")
    words = [word for text in (*sets, "schedule.grace_seconds=120") for word in ("--set", text)]
    lines = written("systemd", *words)["bnpipe-retrain.service"].splitlines()
    run, look, soak = 2 * 3600, 2 * 3600, 2 * (3600 + 1800)
    assert f"TimeoutStartSec={run + look + soak + 900}" in lines
    assert "TimeoutStopSec=150" in lines
    by_hand = written("systemd", "--set", "canary.bake=30m", "--force")["bnpipe-retrain.service"]
    assert f"TimeoutStartSec={run + 2 * 1800 + 900}" in by_hand.splitlines()


def test_a_task_per_step_runs_that_step_with_the_same_configuration(folder: Path) -> None:
    sets = ("--set", "schedule.per_step=true", "--set", "trainer.epochs=3")
    (text,) = written("airflow", *sets, "--config", "bnpipe.yaml").values()
    names: dict[str, Any] = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
    }
    options = ["--config", f"{folder}/bnpipe.yaml", *sets]
    assert shlex.split(names["COMMAND"]) == [*child.COMMAND, "run", *options]
    assert [*names["WAITS_FOR"]][0::10] == ["example_gen", "pusher"]
    assert "'BNPIPE_HOME': '" + str(folder / "home") in text
    assert f"timedelta(seconds={2 * 3600 + 900})" in text
    assert sorted(path.name for path in Path("schedule").iterdir()) == ["bnpipe_steps.py"]
    with pytest.raises(ConfigError, match=r"expected \[clock\] .* received \[clock, drift\]"):
        written("airflow", *sets, "--set", "schedule.triggers=[clock, drift]")


def test_a_configuration_that_is_named_is_named_from_the_root(folder: Path) -> None:
    line = written("cron", "--config", "bnpipe.yaml")["bnpipe-retrain.crontab"]
    assert f"retrain --due --config {folder}/bnpipe.yaml" in line


def test_kubernetes_gets_the_resolved_configuration(folder: Path) -> None:
    text = written("kubernetes", "--set", "trainer.epochs=3")["bnpipe-retrain.yaml"]
    (mapped,) = [d for d in yaml.safe_load_all(text) if d["kind"] == "ConfigMap"]
    config = yaml.safe_load(mapped["data"]["bnpipe.yaml"])
    assert (config["schedule"]["cron"], config["trainer"]["epochs"]) == ("0 3 * * *", 3)


def test_what_was_written_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written("systemd")
    assert capsys.readouterr().out.split() == [
        "schedule/bnpipe-retrain.service",
        "schedule/bnpipe-retrain.timer",
    ]
    written("cron", "--json")
    told = json.loads(capsys.readouterr().out)
    assert told == {"folder": "schedule", "files": ["bnpipe-retrain.crontab"]}


def test_files_that_people_wrote_are_replaced_by_force_only(folder: Path) -> None:
    before = os.umask(0o077)
    try:
        files = written("airflow")
        assert files == written("airflow")
    finally:
        os.umask(before)
    assert closed([Path("schedule"), *Path("schedule").iterdir()]) == []  # Airflow's own user
    Path("schedule/bnpipe_retrain.py").write_text("# my own bnpipe: by hand\n")
    with pytest.raises(RequestError, match=r"retrain\.py was not written by bnpipe.*--force"):
        written("airflow")
    assert Path("schedule/bnpipe_retrain.py").read_text() == "# my own bnpipe: by hand\n"
    assert written("airflow", "--force") == files


def test_the_page_over_all_runs_is_named_once_it_is_drawn(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = many_runs(folder / "home", 2).home
    assert call(["schedule", "status"]) == 0
    assert "overview.html" not in capfd.readouterr().out
    assert call(["report", "--all", "--json"]) == 0
    page = str(home / "overview.html")
    answer = json.loads(capfd.readouterr().out)
    assert answer == {"report": page, "runs": 2, "unreadable": []}
    assert call(["schedule", "status"]) == 0
    assert f"page      {page}\n" in capfd.readouterr().out
    assert call(["schedule", "status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["page"] == page


def test_a_report_is_of_one_run_or_of_all(folder: Path) -> None:
    many_runs(folder / "home", 1)
    for run in ("1", "latest"):
        with pytest.raises(ConfigError, match=f"report {run} --all: expected one run or all"):
            call(["report", run, "--all", "--out", "elsewhere.html"])
    assert call(["report", "--all", "--out", "elsewhere.html"]) == 0
    assert 'href="home/runs/0001/report.html"' in (folder / "elsewhere.html").read_text()
