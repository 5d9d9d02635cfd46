"""What `bnpipe diff` finds between two runs."""

import json
from pathlib import Path

import pytest

from bnpipe.data.errors import DataError
from bnpipe.pipeline.cli.app import call
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode
from bnpipe.pipeline.engine.runs import RunFolder, find_run
from bnpipe.pipeline.report.diff import diff_runs
from tests.pipeline.report.finished_run import IMAGES, Home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("diff") / "home")
    home.finish("0001", wrong=0.0)
    home.finish("0002", wrong=0.0)
    home.finish("0003", wrong=0.2, epochs=5, code="b")
    home.fail("0004")
    return home


@pytest.fixture
def at_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("BNPIPE_HOME", str(home.store.home))
    return home


def run(home: Home, number: str) -> RunFolder:
    return find_run(home.store, number)


def test_equal_runs_do_not_differ(home: Home) -> None:
    found = diff_runs(home.store, run(home, "1"), run(home, "2"))
    assert (found.config, found.code, found.data, found.environment, found.gate) == ((),) * 5
    assert not any(change.difference for change in found.metrics)
    assert found.paired is not None
    assert (found.paired.difference, found.paired.p_value) == (0.0, 1.0)
    # That no image sets the two apart is no proof that none would.
    assert found.paired.interval[0] < 0 < found.paired.interval[1]


def test_what_changed_is_named(home: Home) -> None:
    found = diff_runs(home.store, run(home, "1"), run(home, "3"))
    assert [(c.name, c.before, c.after) for c in found.config] == [("trainer.epochs", 3, 5)]
    assert [c.name for c in found.code] == [
        "bnpipe.components.baseline",
        "bnpipe.components.evaluator",
        "bnpipe.components.example_gen",
        "bnpipe.components.example_validator",
        "bnpipe.components.infra_validator",
        "bnpipe.components.label_validator",
        "bnpipe.components.statistics_gen",
        "bnpipe.components.trainer",
    ]
    assert "trainer.model" in {c.name for c in found.data}
    assert "example_gen.examples" not in {c.name for c in found.data}
    assert ("accuracy_floor", "ok", "block") in [(c.name, c.before, c.after) for c in found.gate]


def test_a_run_by_a_version_with_other_words_is_compared_in_the_words_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    home.finish("0001", wrong=0.0, former=True)
    home.finish("0002", wrong=0.0)
    home.finish("0003", wrong=0.2)
    assert diff_runs(home.store, run(home, "1"), run(home, "2")).gate == ()
    gates = [diff_runs(home.store, run(home, before), run(home, "3")).gate for before in "12"]
    assert gates[0] == gates[1]
    monkeypatch.setenv("BNPIPE_HOME", str(home.store.home))
    shown = []
    for number in ("1", "2"):
        call(["show", f"{number}/evaluator", "--json"])
        rules = json.loads(capsys.readouterr().out)["blessing"]["rules"]
        shown.append([(r["name"], r["outcome"], r["sentence"], r["value"]) for r in rules])
    assert shown[0] == shown[1]


def test_words_of_a_newer_version_are_refused_in_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    report = home.finish("0001", wrong=0.0).path / "report.json"
    report.write_text(report.read_text().replace('"outcome": "ok"', '"outcome": "fine"'))
    with pytest.raises(DataError) as refused:
        diff_runs(home.store, run(home, "1"), run(home, "1"))
    assert str(refused.value) == (
        "usable_models: expected an outcome of off, not checked, ok, warn, block, at a level of "
        "block, warn, off, received 'fine' at 'block'; was it written by a newer bnpipe?"
    )


def test_candidates_are_compared_image_by_image(home: Home) -> None:
    paired = diff_runs(home.store, run(home, "1"), run(home, "3")).paired
    assert paired is not None
    assert paired.images == IMAGES
    assert paired.only_after == 0
    assert paired.difference == -paired.only_before / IMAGES
    assert paired.interval[0] < paired.difference < paired.interval[1] < 0
    assert paired.p_value < 1e-6


def test_a_run_without_an_evaluation_can_be_compared(home: Home) -> None:
    found = diff_runs(home.store, run(home, "4"), run(home, "1"))
    assert found.metrics == ()
    assert found.paired is None
    assert "trainer.model" in {c.name for c in found.data}


def test_the_verb_tells_it_to_people(at_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["diff", "1", "3"]) == ExitCode.OK
    told = capsys.readouterr().out
    for text in (
        "run 0001",
        "run 0003",
        "trainer.epochs",
        "bnpipe.components.trainer",
        "accuracy_floor",
    ):
        assert text in told
    assert f"on the same {IMAGES} images" in told


def test_the_verb_tells_it_to_scripts(at_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["diff", "1", "3", "--json"]) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["before"]["id"], told["after"]["id"]) == ("0001", "0003")
    assert told["config"] == [{"name": "trainer.epochs", "before": 3, "after": 5}]
    accuracy = told["metrics"][0]
    assert accuracy["metric"] == "accuracy"
    assert accuracy["difference"] == pytest.approx(told["paired"]["difference"])
    assert accuracy["after"]["interval"][0] < accuracy["after"]["value"]


def test_the_second_name_is_the_latest(at_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    call(["diff", "1", "--json"])
    assert json.loads(capsys.readouterr().out)["after"]["id"] == "0004"


def test_a_metric_that_one_run_lacks_is_not_told_as_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    for number in ("0001", "0002"):
        home.finish(number, wrong=0.0)
    report = home.store.runs / "0002" / "report.json"
    told = json.loads(report.read_text())
    told["evaluation"]["models"]["candidate"]["macro_auc"] = None
    report.write_text(json.dumps(told))
    monkeypatch.setenv("BNPIPE_HOME", str(home.store.home))
    call(["diff", "1", "2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "macro" in line]
    assert [(row[2], row[-1]) for row in rows] == [("F1", "="), ("AUC", "-")]


def test_names_that_name_no_run(at_home: Home, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run '9'"):
        call(["diff", "9"])
    with pytest.raises(ConfigError, match="nothing is served"):
        call(["diff", "champion"])


def test_show_tells_what_the_evaluator_found(
    at_home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["show", "1/evaluator"])
    told = capsys.readouterr().out
    assert "macro F1" in told
    assert "baseline_non_inferior" in told
    call(["show", "1/evaluator", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "evaluator"
    assert {"candidate", "baseline"} == set(found["evaluation"]["models"])
    assert found["blessing"]["rules"]


def test_the_report_verb_prints_the_path(at_home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    call(["report", "1"])
    path = Path(capsys.readouterr().out.strip())
    assert path == at_home.store.runs / "0001" / "report.html"
    assert path.exists()
