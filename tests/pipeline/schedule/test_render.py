"""Files for systemd, cron, Kubernetes and Airflow: what the real programs make of them."""

import ast
import json
import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from bnpipe.pipeline.configuration.config import load
from bnpipe.pipeline.definition import build
from bnpipe.pipeline.engine.errors import ConfigError
from bnpipe.pipeline.schedule.render import KINDS, TickCommand, render, waits
from tests.child import environment

NASTY = "a $HOME \"b\" 100% \\ 'c'"


def tick(folder: Path, *command: str, **more: Any) -> TickCommand:
    return TickCommand(
        command=command or (sys.executable, "-m", "bnpipe.pipeline", "retrain", "--due"),
        folder=folder,
        **{"image": "registry.example/bnpipe:1", "time_limit": 3600, **more},
    )


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no scheduler is called 'at'"):
        render("at", tick(tmp_path))


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_break_cannot_add_a_line(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control characters"):
        render(kind, tick(tmp_path, "bnpipe", "a\nExecStartPre=/bin/rm"))


# systemd


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    folder = tmp_path / "a 100% $HOME folder"
    folder.mkdir()
    program = folder / "python"  # that there is such a program, it looks itself
    program.symlink_to(sys.executable)
    files = render("systemd", tick(folder, str(program), environment={"BNPIPE_HOME": NASTY}))
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    checked = subprocess.run(
        [analyze, "--man=no", "verify", *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        env=environment(SYSTEMD_UNIT_PATH=f"{tmp_path}:"),
    )
    said = [line for line in checked.stderr.splitlines() if "bnpipe-retrain" in line]
    assert (checked.returncode, said) == (0, [])


def test_systemd_words_are_what_was_meant(tmp_path: Path) -> None:
    service = render("systemd", tick(tmp_path, "/bin/echo", NASTY))["bnpipe-retrain.service"]
    (line,) = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    # As systemd.syntax(7) reads it back: quotes, then specifiers, and no variables for the colon.
    assert line == 'ExecStart=:"/bin/echo" "a $HOME \\"b\\" 100%% \\\\ \'c\'"'
    assert "SuccessExitStatus=3" in service
    assert "TimeoutStartSec=4500" in service


def test_no_time_limit_is_no_limit(tmp_path: Path) -> None:
    service = render("systemd", tick(tmp_path, time_limit=None))["bnpipe-retrain.service"]
    assert "TimeoutStartSec=infinity" in service


# cron


def crontab_line(found: TickCommand) -> str:
    return render("cron", found)["bnpipe-retrain.crontab"].splitlines()[-1]


def test_cron_runs_the_words_that_were_meant(tmp_path: Path) -> None:
    """The command as cron gives it to `sh`, run with a `logger` that keeps what it is told."""
    folder = tmp_path / "100% 'mine'"
    folder.mkdir()
    kept = tmp_path / "kept"
    logger = tmp_path / "bin" / "logger"
    logger.parent.mkdir()
    logger.write_text(f"#!/bin/sh\ncat > '{kept}'\n")
    logger.chmod(0o755)
    code = "import json, os, sys; print(json.dumps([os.getcwd(), os.environ['X'], sys.argv[1]]))"
    line = crontab_line(tick(folder, sys.executable, "-c", code, NASTY, environment={"X": NASTY}))
    fields = line.split(" ", 5)
    assert fields[:5] == ["*/5", "*", "*", "*", "*"]
    command = fields[5].replace(r"\%", "\0")
    assert "%" not in command  # cron ends the command there
    path = f"{logger.parent}:{os.environ['PATH']}"
    words = ["/bin/sh", "-c", command.replace("\0", "%")]
    subprocess.run(words, check=True, env=environment(PATH=path))
    assert json.loads(kept.read_text()) == [str(folder), NASTY, NASTY]


# Kubernetes


def test_a_cron_job_needs_an_image(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="container image"):
        render("kubernetes", tick(tmp_path, image=None))


def documents(found: TickCommand) -> dict[str, Any]:
    text = render("kubernetes", found)["bnpipe-retrain.yaml"]
    return {each["kind"]: each for each in yaml.safe_load_all(text)}


def test_kubernetes_objects_fit_their_schemas(tmp_path: Path) -> None:
    import kubernetes_validate as validator

    for kind, each in documents(tick(tmp_path, config="trainer: {epochs: 2}\n")).items():
        validator.validate(each, "1.31", strict=True)
        if kind == "CronJob":
            each["spec"]["concurencyPolicy"] = "Forbid"
            with pytest.raises(validator.ValidationError):
                validator.validate(each, "1.31", strict=True)


def test_a_cron_job_never_overlaps_and_never_fails_for_a_verdict(tmp_path: Path) -> None:
    found = documents(tick(tmp_path, config="data: {dataset: 'a: b'}\n"))
    job = found["CronJob"]["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 4500
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert yaml.safe_load(found["ConfigMap"]["data"]["bnpipe.yaml"]) == {
        "data": {"dataset": "a: b"}
    }
    for code, expected in ((0, 0), (3, 0), (1, 1), (7, 7)):
        stub = f"bnpipe() {{ return {code}; }}; "
        command = [*container["command"][:2], stub + container["command"][2]]
        assert subprocess.run(command, env=environment()).returncode == expected


def test_a_pod_that_is_stopped_lets_its_tick_end(tmp_path: Path) -> None:
    found = documents(tick(tmp_path))["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    stub = tmp_path / "bnpipe"
    trap = "trap 'sleep 0.2; echo ended; exit 7' TERM"
    # The pod is told as soon as its tick can be.
    stub.write_text(f"#!/bin/sh\n{trap}\nkill -TERM $PPID\nwhile :; do sleep 0.05; done\n")
    stub.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    command = found["containers"][0]["command"]
    pod = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(PATH=path))
    assert (pod.stdout, pod.returncode) == ("ended\n", 7)


# Airflow


def test_the_dag_is_python_with_the_words_that_were_meant(tmp_path: Path) -> None:
    text = render("airflow", tick(tmp_path, "/bin/echo", NASTY))["bnpipe_retrain.py"]
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    words = {k.arg: k.value for call in calls for k in call.keywords}
    told = subprocess.run(
        ["/bin/sh", "-c", ast.literal_eval(words["bash_command"])],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == NASTY + "\n"
    assert ast.literal_eval(words["catchup"]) is False
    assert ast.literal_eval(words["max_active_runs"]) == 1


def test_what_airflow_would_take_for_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="template of its own"):
        render("airflow", tick(tmp_path, "bnpipe", "--set", "a={{ b }}"))


# Airflow, one task per step

WAITS_FOR = {
    "first": [],
    "left": ["first"],
    "right": ["first"],
    "gate": ["left", "right"],
    "last": ["gate"],
}


def test_every_step_waits_for_what_the_product_has_it_wait_for(tmp_path: Path) -> None:
    """Directly or by another: a task may begin when all that its step waits for has ended."""
    graph = build(load(environ={}), tmp_path)
    tasks = waits(graph)
    assert list(tasks) == list(graph.nodes)
    assert tasks["example_gen"] == []
    assert tasks["label_validator"] == ["cross_validation", "trainer", "baseline"]
    assert tasks["pusher"] == ["infra_validator"]
    reached: dict[str, set[str]] = {}
    for step, others in tasks.items():
        reached[step] = {*others}.union(*(reached[other] for other in others))
        assert reached[step] == graph.waits_for(step)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "airflow"])
def test_only_airflow_has_a_task_per_step(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"expected --kind airflow, .* received --kind {kind}"):
        render(kind, tick(tmp_path, steps=WAITS_FOR))


def test_the_dag_of_steps_is_python_and_no_template_of_airflow(tmp_path: Path) -> None:
    for slots in (None, "0 3 * * 1-5", timedelta(hours=6)):
        found = tick(tmp_path, "/bin/echo", NASTY, steps=WAITS_FOR, slots=slots)
        (text,) = render("airflow", found).values()
        keywords = {
            k.arg: ast.unparse(k.value)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Call)
            for k in node.keywords
        }
        assert keywords["schedule"] == repr(slots)
    with pytest.raises(ConfigError, match="template of its own"):
        render("airflow", tick(tmp_path, "bnpipe", "--set", "a={{ b }}", steps=WAITS_FOR))


class Airflow:
    """A real Airflow 3, with a folder of DAGs and a state of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self.dags = program, folder / "dags"
        self.dags.mkdir()
        self._environ = environment(
            HOME=str(folder),
            AIRFLOW_HOME=str(folder / "airflow"),
            AIRFLOW__CORE__DAGS_FOLDER=str(self.dags),
            AIRFLOW__CORE__LOAD_EXAMPLES="False",
            NO_COLOR="1",
        )
        assert self.call("db", "migrate").returncode == 0

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *words], capture_output=True, text=True, env=self._environ
        )

    def told(self, *words: str) -> list[dict[str, str]]:
        """The table that a command shows, after what it complains about."""
        shown: list[dict[str, str]]
        shown = json.loads(self.call(*words, "--output", "json").stdout.splitlines()[-1])
        return shown

    def run(self, dag: str) -> str:
        """Runs a DAG that it loads without complaint; returns what was said."""
        errors = self.call("dags", "list-import-errors", "--local", "--output", "json")
        assert dag not in errors.stdout + errors.stderr
        ran = self.call("dags", "test", dag, "2026-01-01")
        return ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("code", "state"), [(0, "success"), (3, "skipped"), (1, "failed")])
def test_airflow_loads_and_runs_the_dag(
    airflow: Path, tmp_path: Path, code: int, state: str
) -> None:
    running, seen = Airflow(airflow, tmp_path), tmp_path / "seen"
    found = tick(
        tmp_path, "/bin/sh", "-c", 'echo "$X" > seen; exit "$1"', "tick", str(code),
        environment={"X": NASTY},
    )  # fmt: skip
    (running.dags / "bnpipe_retrain.py").write_text(render("airflow", found)["bnpipe_retrain.py"])
    said = running.run("bnpipe_retrain")
    assert seen.read_text() == NASTY + "\n", said
    assert f"new_state={state} " in said


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_airflow_runs_a_task_per_step_and_skips_what_a_verdict_stops(
    airflow: Path, tmp_path: Path
) -> None:
    """A gate says no; a step that finds the store locked is tried again."""
    running, seen = Airflow(airflow, tmp_path), tmp_path / "seen"
    script = tmp_path / "a b.sh"
    script.write_text("""\
step=$2; echo "$step $X" >> seen
[ $step = gate ] && exit 3
[ $step = left ] && [ "$(grep -c "^left " seen)" = 1 ] && exit 5
exit 0
""")
    found = tick(
        tmp_path, "/bin/sh", str(script),
        environment={"X": NASTY}, steps=WAITS_FOR, slots="0 3 * * 1-5", timezone="Europe/Berlin",
        backoff=0.1,
    )  # fmt: skip
    (running.dags / "bnpipe_steps.py").write_text(render("airflow", found)["bnpipe_steps.py"])
    said = running.run("bnpipe_steps")
    lines = seen.read_text().splitlines()
    assert {line.split(" ", 1)[1] for line in lines} == {NASTY}, said
    began = [line.split()[0] for line in lines]
    assert sorted(began) == ["first", "gate", "left", "left", "right"], said
    assert (began[0], began[-1]) == ("first", "gate")
    (details,) = running.told("dags", "details", "bnpipe_steps")
    coming = datetime.fromisoformat(details["next_dagrun_run_after"])
    assert coming.astimezone(ZoneInfo("Europe/Berlin")).hour == 3
    (ran,) = running.told("dags", "list-runs", "bnpipe_steps")
    tasks = running.told("tasks", "states-for-dag-run", "bnpipe_steps", ran["run_id"])
    states = {task["task_id"]: task["state"] for task in tasks}
    skipped = dict.fromkeys(("gate", "last"), "skipped")
    assert states == dict.fromkeys(("first", "left", "right"), "success") | skipped


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Airflow 3 in an environment of its own: its packages clash with the pipeline's."""
    folder = tmp_path_factory.mktemp("airflow") / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], env=environment(), check=True)
    install = ("-m", "pip", "--disable-pip-version-check", "-q", "install")
    packages = ("apache-airflow-core>=3.1,<4", "apache-airflow-providers-standard")
    made = subprocess.run(
        [folder / "bin" / "python", *install, *packages],
        env=environment(),
        capture_output=True,
        text=True,
    )
    if made.returncode:
        pytest.skip(f"Airflow cannot be installed: {made.stderr.strip().splitlines()[-1]}")
    return folder / "bin" / "airflow"
