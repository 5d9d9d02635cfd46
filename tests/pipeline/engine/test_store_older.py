"""A home that an older bnpipe left, its objects collected: it is read, and run on from."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError

OLDER = Path(__file__).with_name("older_home")


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    shutil.copytree(OLDER, home)
    monkeypatch.setenv("BNPIPE_HOME", str(home))
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("bnpipe.yaml").write_text("data: {dataset: rendered_digits, size: 600, shards: 2}\n")
    return home


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert call([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_its_runs_are_listed_and_shown(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [run["id"] for run in answer(capsys, "runs")] == ["0002"]
    steps = answer(capsys, "show", "latest")["steps"]
    assert [step["name"] for step in steps][-2:] == ["infra_validator", "pusher"]
    assert call(["show", "latest/evaluator"]) == 0
    assert "0.87" in capsys.readouterr().out


def test_the_plan_says_which_code_is_another(
    older: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = answer(capsys, "plan")["steps"][0]
    assert (first["name"], first["action"]) == ("example_gen", "run")
    # Another Python is a reason of its own.
    assert any(reason["sentence"].startswith("code changed: ") for reason in first["reasons"])


def test_its_configuration_is_refused_with_the_new_name_of_a_key(older: Path) -> None:
    with pytest.raises(ConfigError, match=r"validator\.presence.*validator\.checks\.presence"):
        call(["plan", "--config", str(older / "runs/0002/config.yaml")])
