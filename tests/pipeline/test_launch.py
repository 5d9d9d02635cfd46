"""What can be known before anything runs is said then."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline import cli
from bnpipe.serving.folder.signing import make_keys
from tests.child import environment


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BNPIPE_HOME", str(tmp_path / "home"))
    for name in ("BNPIPE_ARCHIVES", "BNPIPE_CONFIG", "BNPIPE_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def refusal(capfd: Any, *words: str) -> str:
    """The one line with which something is refused, with exit code 2."""
    capfd.readouterr()
    assert cli._main(list(words)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    return str(line)


WRONG = [
    ("serving.signing_key=none.pem", "serving.signing_key none.pem: expected a readable PEM file"),
    ("serving.verify_key=[none.pub]", "serving.verify_key none.pub: expected a readable PEM file"),
    ("serving.base_path=nope://b/p", "serving.base_path nope://b/p: nope:// needs a package"),
    ("evaluator.slices=[nope]", "evaluator.slices: expected label, ink_quartile, span"),
    ("evaluator.slices=[label*label]", "received 'label*label'"),
    ("serving.server_url=http://a:1,http://b:2", "several are a list: [http://A:8501, "),
    ("data.spans=gs://bucket/{SPAN}", "data.spans: expected a path on this machine"),
]


@pytest.mark.parametrize(("setting", "complaint"), WRONG)
@pytest.mark.parametrize("verb", ["plan", "run", "config check"])
def test_a_setting_that_cannot_work_is_refused_before_anything_runs(
    verb: str, setting: str, complaint: str, home: Path, capfd: Any
) -> None:
    sets = ("--set", "data.dataset=rendered_digits", "--set", setting)
    assert complaint in refusal(capfd, *verb.split(), *sets)
    assert not home.exists()


def test_keys_that_belong_together_are_taken_and_others_not(tmp_path: Path, capfd: Any) -> None:
    for name in ("one", "two"):
        make_keys(tmp_path / name)
    sets = ("--set", "data.dataset=rendered_digits", "--set", "serving.signing_key=one")
    assert cli._main(["plan", *sets]) == 0
    told = refusal(capfd, "plan", *sets, "--set", "serving.verify_key=two.pub")
    assert "serving.verify_key two.pub does not belong to serving.signing_key one" in told


def test_keys_are_not_asked_for_where_nothing_is_published() -> None:
    sets = ("--set", "data.dataset=rendered_digits", "--set", "serving.signing_key=none.pem")
    assert cli._main(["plan", "--to", "trainer", *sets]) == 0
    assert cli._main(["status", *sets]) == 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("https://a/x,https://b/y", "its URL must be one http"),
        ("a.example/hook", "its URL must be one http"),
        (None, "cannot read url.txt: FileNotFoundError"),
    ],
)
def test_a_webhook_that_cannot_be_told_is_refused_by_the_check_without_its_secret(
    content: str | None, complaint: str, tmp_path: Path, capfd: Any
) -> None:
    if content is not None:
        (tmp_path / "url.txt").write_text(content)
    sets = ("--set", "data.dataset=rendered_digits", "--set", "notify.webhook_file=url.txt")
    told = refusal(capfd, "config", "check", *sets)
    assert complaint in told and "//a" not in told


def test_a_command_that_is_no_program_is_refused_by_the_check(capfd: Any) -> None:
    words = ("config", "check", "--set", "data.dataset=rendered_digits")
    told = refusal(capfd, *words, "--set", "notify.command=[./tell.sh]")
    assert "notify.command: expected a program, received './tell.sh'" in told


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "beam.flink.master: the engine flink needs it"),
        (("beam.flink.master=http://a", "beam.flink.job_server=a:1"), "expected HOST:PORT"),
        (("beam.flink.master=a:1",), "beam.flink.job_server: the engine flink needs it"),
    ],
)
def test_an_engine_without_what_it_needs_is_refused(
    words: tuple[str, ...], complaint: str, home: Path, capfd: Any
) -> None:
    sets = [word for setting in ("beam.engine=flink", *words) for word in ("--set", setting)]
    assert complaint in refusal(capfd, "run", *sets)
    assert complaint in refusal(capfd, "doctor", "--engine", *sets)
    assert complaint in refusal(capfd, "config", "check", *sets)
    assert not home.exists()


def test_flags_are_added_to_those_of_the_engine_and_name_no_other(home: Path, capfd: Any) -> None:
    named = ("beam.engine=flink", "beam.flink.master=a:1", "beam.flink.job_server=a:1")
    sets = [word for setting in named for word in ("--set", setting)]
    line = refusal(capfd, "run", *sets, "--", "--runner=DirectRunner")
    assert "--runner=DirectRunner: the engine is flink" in line
    line = refusal(capfd, "run", "--only", "trainer", *sets, "--", "--object_reuse")
    assert "--only trainer needs results" in line  # Flink's own flags are its job server's matter


def test_drawing_ahead_leaves_nothing_to_load_for_the_report() -> None:
    code = """
import sys
from bnpipe.pipeline import launch
launch.draw_ahead()
loaded = set(sys.modules)
from bnpipe.pipeline.report import contents, evaluation_charts, page
print(sorted(set(sys.modules) - loaded), page.template.cache_info().currsize)
"""
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment(), capture_output=True, text=True
    )
    assert run.stdout.split("\n")[0] == "[] 1", run.stderr[-3000:]
