"""Every verb over the toy pipeline, in this process: what it prints and how it exits."""

import json
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bnpipe.components.artifacts import Artifact
from bnpipe.pipeline import cli, definition, launch
from bnpipe.pipeline.engine import provenance
from bnpipe.pipeline.engine import runs as run_folders
from bnpipe.pipeline.engine.lock import alone_in, run_locks
from bnpipe.pipeline.engine.runs import find_run
from bnpipe.pipeline.engine.store import Store
from tests.pipeline import toy_cli
from tests.pipeline.toy_home import STEPS, flip


class Told(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Bnpipe = Callable[..., Told]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "in.txt").write_text("seven\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TOY_FILE", str(tmp_path / "in.txt"))
    monkeypatch.delenv("BNPIPE_ARCHIVES", raising=False)
    monkeypatch.setattr(definition, "build", toy_cli.build)
    monkeypatch.setattr(launch, "build", toy_cli.build)
    monkeypatch.setattr(provenance, "_git", lambda *_: None)  # four processes a run
    return tmp_path / "home"


@pytest.fixture
def bnpipe(home: Path, capfd: pytest.CaptureFixture[str]) -> Bnpipe:
    def call(*words: str) -> Told:
        capfd.readouterr()
        code = int(cli._main(list(words)))
        out, err = capfd.readouterr()
        return Told(code, out, err)

    return call


@pytest.fixture
def ran(bnpipe: Bnpipe) -> Bnpipe:
    assert bnpipe("run").code == 0
    return bnpipe


def one_line(told: Told) -> str:
    """The error, which is one line."""
    assert told.err.startswith("error: ") and len(told.err.splitlines()) == 1, told.err
    return told.err


# run


def test_run_shows_every_step_and_a_summary(bnpipe: Bnpipe, home: Path) -> None:
    told = bnpipe("run")
    lines = told.out.splitlines()
    assert told.code == 0 and told.err == ""
    assert lines[0].startswith("run 0001  mnist  5 steps, 5 to run")
    assert [line.split()[1] for line in lines[1:6]] == list(STEPS)
    assert lines[6:9] == [
        "data set  mnist",
        "verdict   good enough",
        f"pushed    v1 is live in {home}/served/mnist/1",
    ]
    assert lines[9] == f"report    {home}/runs/0001/report.html"
    assert "\x1b" not in told.out  # no colours where there is no terminal


def test_run_again_says_cached_for_every_step(ran: Bnpipe) -> None:
    told = ran("run")
    assert told.out.splitlines()[0].endswith("5 steps, 0 to run")
    assert told.out.count("unchanged since run 0001") == 4
    assert "up to date (v1 live)" in told.out


def test_run_json_is_one_object(bnpipe: Bnpipe) -> None:
    told = bnpipe("run", "--json")
    summary = told.json
    assert len(told.out.splitlines()) == 1
    assert (summary["id"], summary["status"], summary["dataset"]) == ("0001", "succeeded", "mnist")
    assert summary["verdict"] == {"step": "judge", "passed": True, "sentence": "good enough"}
    assert summary["pushed"]["version"] == 1
    step = summary["steps"][1]
    fields = {"name", "action", "reasons", "seconds", "facts", "outputs"}
    assert fields <= set(step)
    assert step["name"] == "train" and len(step["outputs"]["model"]) == 64


def test_a_refused_model_exits_3(bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_REFUSE", "1")
    told = bnpipe("run")
    assert told.code == 3
    assert "stopped by judge: not good enough" in told.out


def test_a_failed_step_exits_1_with_one_line(
    bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "train")
    told = bnpipe("run")
    assert told.code == 1
    assert "train failed: the toy broke; mend the toy" in one_line(told)
    assert "Traceback" not in told.out
    verbose = bnpipe("run", "-v")
    assert "Traceback" in verbose.err and "DataError" in verbose.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--set", "trainer.epoch=3"],
            "unknown config key trainer.epoch → did you mean trainer.ep",
        ),
        (["--set", "trainer.epochs=0"], "trainer.epochs: input should be greater than or equal to"),
        (["--config", "none.yaml"], "cannot read config none.yaml"),
        (["--to", "tain"], "there is no step 'tain' → steps are: source, train"),
        (["--force", "tain"], "there is no step 'tain'"),
        (["--only", "judge"], "--only judge needs results that are not in the cache: source"),
    ],
)
def test_what_cannot_be_done_exits_2_with_one_line(
    bnpipe: Bnpipe, words: list[str], expected: str
) -> None:
    told = bnpipe("run", *words)
    assert told.code == 2
    assert expected in one_line(told)


@pytest.mark.parametrize(
    "words",
    [["nosuch"], ["run", "--nosuch"], ["run", "word"], ["show", "1", "2"], ["gc", "--kep"]],
)
def test_a_mistyped_command_exits_2(bnpipe: Bnpipe, words: list[str]) -> None:
    told = bnpipe(*words)
    assert told.code == 2
    assert "Traceback" not in told.err and words[-1].strip("-") in told.err


def test_beside_a_run_only_what_it_needs_alone_exits_5(ran: Bnpipe, home: Path) -> None:
    (key,) = [s["key"] for s in ran("show", "--json").json["steps"] if s["name"] == "train"]
    with run_locks(home) as locks:
        locks.begin("0007")
        locks.take("train", key)
        cached, forced = ran("run"), ran("run", "--force", "train")
        collecting = ran("gc", "--keep", "1", "--yes")
        looking = [ran(*words).code for words in (["plan"], ["status"], ["runs"], ["show"])]
    assert cached.code == 0 and forced.code == collecting.code == 5
    who = f"process {os.getpid()} on {platform.node()} (run 0007)"
    assert f"step train is at work in {who}" in one_line(forced)
    assert f"another run is at work in {home}: {who}" in one_line(collecting)
    assert looking == [0, 0, 0, 0]


def test_while_gc_is_at_work_a_run_exits_5(ran: Bnpipe, home: Path) -> None:
    with alone_in(home):
        told = ran("run")
        looking = [ran(*words).code for words in (["plan"], ["status"], ["runs"], ["show"])]
    assert told.code == 5
    assert f"gc is at work in {home}: process {os.getpid()} on" in one_line(told)
    assert looking == [0, 0, 0, 0]


def test_a_damaged_store_exits_6_and_heals(ran: Bnpipe, home: Path) -> None:
    (digest,) = find_run(Store(home), "latest").summary()["steps"][1]["outputs"].values()
    file = Store(home).object_path(digest) / "history.json"
    file.chmod(0o644)
    file.write_text("short")
    for words in (["run"], ["plan"], ["status"], ["export", "latest/train", "out"]):
        told = ran(*words)
        assert told.code == 6
        assert "history.json has 5 bytes" in one_line(told) and "gc --verify --yes" in told.err
    found = ran("gc", "--verify")
    assert found.code == 6 and digest[:12] in found.out
    assert ran("gc", "--verify", "--yes").code == 0
    assert ran("gc", "--verify").out == "0 damaged objects\n"
    assert f"yours to delete: {home}/quarantine" in ran("gc").out
    assert ran("run").code == 0


def test_a_bug_exits_70_and_says_so(bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(definition, "build", broken)
    told = bnpipe("plan")
    assert told.code == 70
    assert "ZeroDivisionError" in told.err and "bug in bnpipe" in told.err.splitlines()[-1]


def test_a_newer_store_exits_6(ran: Bnpipe, home: Path) -> None:
    (home / "format").write_text("2\n")
    told = ran("runs")
    assert told.code == 6 and "upgrade bnpipe" in one_line(told)


# plan, status, resume


def test_plan_tells_reasons_and_its_exit_code_is_for_scripts(bnpipe: Bnpipe, home: Path) -> None:
    assert bnpipe("plan").code == 0
    assert bnpipe("plan", "--exit-code").code == 4
    assert not home.exists()
    bnpipe("run")
    assert bnpipe("plan", "--exit-code").code == 0
    told = bnpipe("plan", "--set", "trainer.epochs=2", "--exit-code")
    assert told.code == 4
    assert "rate: 10 -> 2" in told.out and "3 of 5 steps to run" in told.out


def test_plan_does_not_call_a_stopped_step_done(
    bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_REFUSE", "1")
    bnpipe("run")
    assert bnpipe("plan").out.splitlines()[-1] == "nothing to run: 1 step stopped by judge"


def test_plan_json_lists_steps_with_reasons(ran: Bnpipe) -> None:
    steps = ran("plan", "--json", "--force", "twin").json["steps"]
    assert [s["name"] for s in steps] == list(STEPS)
    assert steps[2]["reasons"] == [{"code": "forced", "sentence": "forced"}]
    assert len(ran("plan", "--to", "train", "--json").json["steps"]) == 2


def test_status_before_and_after(bnpipe: Bnpipe, home: Path) -> None:
    before = bnpipe("status", "--json").json
    assert before["last_run"] is None and before["work"] == list(STEPS)
    assert before["served"]["live"] is None and not home.exists()
    assert bnpipe("status", "--exit-code").code == 4
    bnpipe("run")
    told = bnpipe("status", "--exit-code")
    assert told.code == 0
    for text in ("last run  0001 succeeded", "to run    nothing", "served    v1 in "):
        assert text in told.out


def test_status_says_that_a_run_is_at_work(ran: Bnpipe, home: Path) -> None:
    with run_locks(home) as locks:
        locks.begin("0007")
        assert ran("status", "--json").json["running"] is True
        who = f"process {os.getpid()} on {platform.node()} (run 0007)"
        assert f"at work   {who}" in ran("status").out
    assert ran("status", "--json").json["running"] is False


def test_resume_goes_on_under_the_configuration_of_the_run(
    bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_FAIL", "judge")
    assert bnpipe("run", "--set", "trainer.epochs=3").code == 1
    monkeypatch.delenv("TOY_FAIL")
    summary = bnpipe("resume", "--json").json
    assert {s["name"]: s["action"] for s in summary["steps"]} == {
        **dict.fromkeys(("source", "train", "twin"), "cached"),
        **dict.fromkeys(("judge", "pusher"), "run"),
    }
    assert bnpipe("resume", "9").code == 2


def test_resume_takes_a_run_that_did_not_record_what_was_asked(ran: Bnpipe, home: Path) -> None:
    record = home / "runs" / "0001" / "run.json"
    summary = json.loads(record.read_text())
    del summary["request"]
    record.write_text(json.dumps(summary))
    assert len(ran("resume", "--json").json["steps"]) == len(STEPS)


def test_a_run_of_a_version_with_other_keys_is_not_resumed_and_that_is_one_line(
    ran: Bnpipe, home: Path
) -> None:
    frozen = home / "runs" / "0001" / "config.yaml"
    frozen.write_text("evaluator: {warn: [], off: [slice_floor]}\n")
    told = ran("resume", "1")
    assert told.code == 2
    assert "run 0001 was started under another configuration: " in one_line(told)
    assert "evaluator.rules.RULE=warn" in told.err and "bnpipe run" in told.err


# runs, show, logs, graph, export


def test_runs_and_show(ran: Bnpipe) -> None:
    ran("run", "--set", "trainer.epochs=2")
    listed = ran("runs", "--json").json
    assert [r["id"] for r in listed] == ["0002", "0001"]
    assert [r["id"] for r in ran("runs", "-n", "1", "--json").json] == ["0002"]
    assert ran("runs", "--status", "failed", "--json").json == []
    assert ran("runs").out.count("succeeded") == 2
    assert ran("show", "1", "--json").json == listed[1]
    assert ran("show", "--json").json == listed[0]
    assert "rate: 10 -> 2" in ran("show").out
    step = ran("show", "latest/train", "--json").json
    assert step["name"] == "train" and step["facts"] == {"rate": 2}
    assert "facts.rate" in ran("show", "2/train").out


def test_show_goes_from_a_served_version_back_to_its_run(ran: Bnpipe, home: Path) -> None:
    found = ran("show", "served/1", "--json").json
    assert found["version"] == 1 and found["run"] == "0001"
    assert found["folder"] == f"{home}/served/mnist/1"
    told = ran("show", "served/1").out
    assert all(text in told for text in ("dataset.name", "code.lock_digest", "inputs.model"))
    assert ran("show", "served/x").code == ran("show", "served/²").code == 2
    assert ran("show", "served/7").code in (2, 7)


@pytest.mark.parametrize("words", [["show"], ["show", "3"], ["logs"], ["resume"]])
def test_without_a_run_there_is_nothing_to_look_at(bnpipe: Bnpipe, words: list[str]) -> None:
    told = bnpipe(*words)
    assert told.code == 2
    assert "there is no run" in one_line(told) and "bnpipe run" in told.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "7"], "there is no run '7'"),
        (["show", "²"], "there is no run '²'"),
        (["show", "latest/tain"], "run 0001 has no step 'tain'"),
        (["logs", "1", "tain"], "run 0001 has no log of tain"),
        (["logs", "../x"], "there is no run '../x'"),
        (["export", "1/tain", "out"], "made nothing called 'tain' → it has: source"),
        (["export", "1/train", "."], ". exists already"),
    ],
)
def test_what_is_not_there_is_one_line(ran: Bnpipe, words: list[str], expected: str) -> None:
    told = ran(*words)
    assert told.code == 2
    assert expected in one_line(told)


def test_a_run_that_was_killed_at_its_very_start_is_one_line(ran: Bnpipe, home: Path) -> None:
    (home / "runs" / "0002").mkdir()
    for words in (["show", "2"], ["resume", "2"], ["logs", "2"], ["export", "2/train", "out"]):
        told = ran(*words)
        assert told.code == 2 and "there is no run '2'" in one_line(told)
    assert ran("show", "--json").json["id"] == "0001"
    assert ran("runs").code == 0
    assert ran("run", "--json").json["id"] == "0003"


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_damaged_record_of_a_run_exits_6(ran: Bnpipe, home: Path, text: str) -> None:
    record = home / "runs" / "0001" / "run.json"
    record.write_text(text)
    for words in (["show"], ["show", "1/train"], ["resume"], ["export", "1/train", "out"]):
        told = ran(*words)
        assert told.code == 6 and f"rm {record}" in one_line(told)
    assert ran("runs").code == ran("status").code == ran("gc").code == 0
    assert ran("run", "--json").json["id"] == "0002"


def test_a_copy_of_a_run_is_not_a_run(ran: Bnpipe, home: Path) -> None:
    shutil.copytree(home / "runs" / "0001", home / "runs" / "0001 (copy)")
    assert ran("show", "--json").json["id"] == "0001"
    assert ran("run", "--json").json["id"] == "0002"


def test_logs_of_one_step_and_of_all(bnpipe: Bnpipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_FAIL", "train")
    bnpipe("run")
    assert "Traceback" in bnpipe("logs", "latest", "train").out
    told = bnpipe("logs").out
    assert "==> source <==" in told and "==> train <==" in told


def test_following_a_log_shows_its_end_and_adds_nothing(
    ran: Bnpipe, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _as_if_at_work(home, "half")
    looks = iter([True, False])

    def is_living(home: Path, run: str) -> bool:
        held = next(looks)
        if not held:  # the run's last words, after what was read and before it is seen to be over
            log.write_text(log.read_text() + " a line\nthe end")
        return held

    monkeypatch.setattr(run_folders, "is_living", is_living)
    assert ran("logs", "1", "train", "-f").out == "half a line\nthe end"


def test_following_a_run_that_was_killed_ends(ran: Bnpipe, home: Path) -> None:
    _as_if_at_work(home, "half")
    assert ran("logs", "1", "train", "-f").out == "half"


def test_following_all_logs_says_whose_lines_these_are(ran: Bnpipe, home: Path) -> None:
    log = _as_if_at_work(home, "half")
    for other in log.parent.glob("*.log"):
        other.write_text("" if other.stem == "twin" else "half")
    told = ran("logs", "1", "-f").out
    assert "half\n==> train <==\nhalf\n==> twin <==\n" in told


def _as_if_at_work(home: Path, text: str) -> Path:
    record = home / "runs" / "0001" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "running"}))
    log = home / "runs" / "0001" / "logs" / "train.log"
    log.write_text(text)
    return log


@pytest.mark.parametrize("form", ["ascii", "mermaid", "dot", "json"])
def test_graph(bnpipe: Bnpipe, form: str) -> None:
    told = bnpipe("graph", "--format", form)
    assert told.code == 0 and "judge" in told.out
    assert bnpipe("graph", "--format", "svg").code == 2


def test_export_copies_what_a_step_made(ran: Bnpipe, tmp_path: Path) -> None:
    assert ran("export", "latest/train", "out").code == 0
    out = tmp_path / "out"
    assert (out / "saved_model" / "saved_model.pb").exists()
    assert not (out / "manifest.json").exists()
    (out / "history.json").write_text("mine now")  # a copy is the user's: it can be changed
    shutil.rmtree(out)
    assert ran("run").code == 0


def test_export_keeps_a_manifest_of_the_step(ran: Bnpipe, home: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "manifest.json").write_text("mine")
    digest = Store(home).commit_object(Artifact("train.model", made)).digest
    record = home / "runs" / "0001" / "run.json"
    summary = json.loads(record.read_text())
    summary["steps"][1]["outputs"] = {"model": digest}
    record.write_text(json.dumps(summary))
    assert ran("export", "1/train", "out").code == 0
    found = [p.relative_to("out") for p in Path("out").rglob("*") if p.is_file()]
    assert found == [Path("deep/manifest.json")]


def test_export_checks_every_byte(ran: Bnpipe, home: Path, tmp_path: Path) -> None:
    (digest,) = find_run(Store(home), "1").summary()["steps"][1]["outputs"].values()
    flip(Store(home).object_path(digest) / "history.json")
    told = ran("export", "latest/train", "out")
    assert told.code == 6 and "other bytes" in one_line(told)
    assert not (tmp_path / "out").exists()


# gc, config


def test_gc_is_dry_unless_told(ran: Bnpipe, home: Path) -> None:
    for epochs in ("2", "3"):
        ran("run", "--set", f"trainer.epochs={epochs}")
    shutil.rmtree(home / "served")  # served versions pin what they were made of
    before = sorted(Store(home).digests())
    dry = ran("gc", "--keep", "1", "--json").json
    assert dry["removed"] is False and dry["bytes"] > 0 and len(dry["objects"]) > 0
    assert "do it: bnpipe gc --yes" in ran("gc", "--keep", "1").out
    assert sorted(Store(home).digests()) == before
    done = ran("gc", "--keep", "1", "--yes", "--json").json
    assert (done["removed"], done["objects"]) == (True, dry["objects"])
    assert sorted(Store(home).digests()) == sorted(set(before) - set(dry["objects"]))
    assert ran("gc", "--keep", "1", "--json").json["objects"] == []


def test_gc_keeps_what_served_versions_were_made_of(ran: Bnpipe) -> None:
    ran("run", "--set", "trainer.epochs=2")
    assert ran("gc", "--keep", "1", "--json").json["objects"] == []


@pytest.mark.parametrize("other", ["data.dataset=fashion_mnist", "serving.base_path=elsewhere"])
def test_gc_keeps_what_is_served_under_another_configuration(ran: Bnpipe, other: str) -> None:
    ran("run", "--set", "trainer.epochs=2")
    assert ran("gc", "--keep", "1", "--set", other, "--json").json["objects"] == []


def test_config_show_check_and_schema(bnpipe: Bnpipe) -> None:
    import yaml

    shown = bnpipe("config", "show", "--set", "trainer.epochs=4")
    assert yaml.safe_load(shown.out)["trainer"]["epochs"] == 4
    assert bnpipe("config", "show", "--json").json["data"]["dataset"] == "mnist"
    assert bnpipe("config", "check").out == "valid: 5 steps\n"
    bad = bnpipe("config", "check", "--set", "trainer.epochs=x")
    assert bad.code == 2 and "valid integer" in one_line(bad)
    schema = bnpipe("config", "schema")
    assert schema.code == 0 and "trainer" in schema.json["properties"]


def test_what_config_show_prints_can_be_used_as_a_config(bnpipe: Bnpipe, tmp_path: Path) -> None:
    shown = bnpipe("config", "show", "--set", "trainer.hidden_units=[8]").out
    (tmp_path / "bnpipe.yaml").write_text(shown)
    assert bnpipe("config", "show").out == shown


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1"),
        (".example.org", ".example.org,localhost,127.0.0.1,::1"),
        ("*", "*"),
    ],
)
def test_what_runs_on_this_machine_is_asked_without_proxies_by_every_library(
    monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    """Beam's workers would wait for ever; gRPC, requests and urllib read this variable."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("no_proxy", before)
    for _ in range(2):
        assert cli._main(["--version"]) == 0
        assert os.environ["no_proxy"] == after
