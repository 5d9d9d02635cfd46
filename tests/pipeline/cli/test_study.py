"""`bnpipe study` after a study that nobody trained: table, JSON, page; cached the second time."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bnpipe.pipeline import cli
from bnpipe.pipeline.configuration.config import Config
from bnpipe.pipeline.engine.execute import FinishedRun
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.store import Store
from bnpipe.pipeline.launch import Request
from tests.components.study import synthetic_step


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    launched = SimpleNamespace(launch=synthetic_step.launch)
    monkeypatch.setitem(sys.modules, "bnpipe.pipeline.study", launched)
    return tmp_path / "home"


def test_a_study_prints_a_verdict_and_a_sentence_per_claim_and_draws_its_page(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli._main(["study"]) == 0
    out = capfd.readouterr().out
    for letter in "abcdef":
        assert f"\n{letter}: " in out
    assert "f: a layer that normalises by the batch at inference" in out
    assert "refuted" in out and "supported" in out
    assert "f refuted: less accurate on few images at once" in " ".join(out.split())
    page = home / "runs" / "0001" / "study.html"
    assert f"page  {page}" in out
    assert "<!doctype html>" in page.read_text()


def test_a_second_study_is_answered_from_the_cache_as_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    synthetic_step.launch(Config(), tmp_path / "home", Request())
    page = tmp_path / "page.html"
    assert cli._main(["study", "--json", "--out", str(page)]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["run"], told["dataset"], told["page"]) == ("0002", "toy", str(page))
    assert "<!doctype html>" in page.read_text()
    (step,) = find_run(Store(tmp_path / "home"), "latest").summary()["steps"]
    assert step["action"] == "cached"
    assert [claim["letter"] for claim in told["claims"]] == list("abcdef")
    claim = told["claims"][0]
    assert claim["verdict"] == "supported"
    assert claim["rows"][0]["low"] < claim["rows"][0]["value"] < claim["rows"][0]["high"]
    assert {"name", "value", "low", "high", "pairs", "decides"} == set(claim["rows"][0])


def test_a_study_that_failed_ends_with_its_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def failed(*arguments: object) -> FinishedRun:
        from bnpipe.components.network.params import TrainingError
        from bnpipe.pipeline.engine.errors import ExitCode

        error = TrainingError("no room", hint="free some")
        return FinishedRun(ExitCode.FAILED, {}, None, error)  # type: ignore[arg-type]

    monkeypatch.setattr(sys.modules["bnpipe.pipeline.study"], "launch", failed)
    assert cli._main(["study", "--json"]) == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err.strip() == "error: no room → free some"


def test_a_study_is_resumed_as_a_study(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = synthetic_step.launch(Config(), tmp_path / "home", Request())
    (first.folder.path / "config.yaml").write_text("{}")  # the toy's is not the product's
    assert cli._main(["resume", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["run"], len(told["claims"])) == ("0002", 6)
