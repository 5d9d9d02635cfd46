"""The command line as a user's shell sees it: one real process per test."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.child import WITH_TESTS, environment
from tests.waiting import wait_for

VERBS = ("run", "plan", "resume", "status", "runs", "show", "logs", "graph", "export", "gc")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "in.txt").write_text("seven\n")
    return environment(
        BNPIPE_HOME=str(tmp_path / "home"), TOY_FILE=str(tmp_path / "in.txt"), **WITH_TESTS
    )


def python(environ: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    folder = Path(environ["BNPIPE_HOME"]).parent
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environ, text=True, capture_output=True
    )


def bnpipe(environ: dict[str, str], *words: str) -> "subprocess.CompletedProcess[str]":
    return python(environ, "-m", "bnpipe.pipeline", *words)


def test_help_names_every_verb_and_every_exit_code(environ: dict[str, str]) -> None:
    from bnpipe.pipeline.engine.errors import ExitCode

    done = bnpipe({**environ, "COLUMNS": "200"}, "--help")
    assert done.returncode == 0
    for verb in [
        "run",
        "plan",
        "resume",
        "status",
        "runs",
        "show",
        "logs",
        "graph",
        "study",
        "export",
        "gc",
        "config",
        "doctor",
    ]:
        assert f" {verb} " in done.stdout
    text = " ".join(done.stdout.split())
    for code in ExitCode:
        assert f"{int(code)} {code.meaning}." in text


def test_the_installed_command_is_the_same_program(environ: dict[str, str]) -> None:
    command = Path(sys.executable).with_name("bnpipe")
    if not command.exists():
        pytest.skip("bnpipe is not installed beside this python")
    done = subprocess.run([command, "--version"], env=environ, text=True, capture_output=True)
    assert done.returncode == 0 and done.stdout.startswith("bnpipe ")


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_another_python_is_one_line_before_anything_is_imported(
    environ: dict[str, str], version: tuple[int, int]
) -> None:
    code = (
        "import sys\n"
        f"sys.version_info = ({version[0]}, {version[1]}, 0, 'final', 0)\n"
        "sys.modules['typer'] = None\n"
        "from bnpipe.pipeline.cli import main\n"
        "main()\n"
    )
    done = python(environ, "-c", code)
    assert done.returncode == 2
    assert done.stderr.startswith("error: bnpipe needs CPython 3.11 to 3.13, this is ")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_data_set_is_one_line_with_a_near_miss(environ: dict[str, str]) -> None:
    done = bnpipe(environ, "plan", "--set", "data.dataset=mnits")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "mnits" in done.stderr and "mnist" in done.stderr
    assert not Path(environ["BNPIPE_HOME"]).exists()


def test_a_reader_that_goes_away_is_no_error(environ: dict[str, str]) -> None:
    words = [sys.executable, "-m", "bnpipe.pipeline", "config", "schema"]
    child = subprocess.Popen(
        words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    told = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 0 and told == ""


def until_at_work(environ: dict[str, str], child: "subprocess.Popen[str]") -> None:
    log = Path(environ["BNPIPE_HOME"]) / "runs" / "0001" / "logs" / "train.log"
    wait_for(lambda: log.exists() or child.poll() is not None)


@pytest.mark.parametrize(
    ("number", "code", "status"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_signal_ends_a_run_with_its_own_code(
    environ: dict[str, str], number: int, code: int, status: str
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline.toy_cli", "run"],
        env={**environ, "TOY_SLEEP": "train"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until_at_work(environ, child)
    child.send_signal(number)
    _, err = child.communicate()
    assert child.returncode == code, err
    assert "Traceback" not in err
    home = Path(environ["BNPIPE_HOME"])
    summary: dict[str, Any] = json.loads((home / "runs" / "0001" / "run.json").read_text())
    assert summary["status"] == status


def test_a_signal_while_planning_ends_it_quietly(environ: dict[str, str]) -> None:
    """Before the first step runs there is no step to abandon, but the code is the same."""
    code = (
        "import os, signal\n"
        "from bnpipe.pipeline.engine import execute\n"
        "from tests.pipeline import toy_cli\n"
        "from bnpipe.pipeline import definition, launch\n"
        "definition.build = launch.build = toy_cli.build\n"
        "execute.make_plan = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
        "import sys; sys.argv = ['bnpipe', 'run']\n"
        "from bnpipe.pipeline.cli import main\n"
        "main()\n"
    )
    done = python(environ, "-c", code)
    assert done.returncode == 143, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
def test_a_misspelt_beam_flag_is_one_line_before_anything_runs(environ: dict[str, str]) -> None:
    """Slow: Beam itself is asked which flags it knows."""
    words = ["--set", "data.dataset=rendered_digits", "--", "--direct_num_wrokers=2"]
    done = bnpipe(environ, "run", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert "did you mean --direct_num_workers?" in done.stderr
    assert not list(Path(environ["BNPIPE_HOME"]).glob("runs/*"))
