"""The real command line on few rendered digits, each call in a process of its own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.child import ROOT, environment
from tests.conftest import MadeOnce

# 90 steps on so few digits: larger ones, moving averages of batch normalisation with less inertia,
# and a gate that asks for what 400 test images can show.
SMALL = """\
data: {dataset: rendered_digits, size: 2400, shards: 2}
trainer: {epochs: 6, batch_size: 128, learning_rate: 0.003, momentum: 0.9}
evaluator:
  slices: [label]
  rules: {slice_floor: off}
  min_accuracy: 0.8
  min_class_accuracy: 0.4
  margin: 0.1
  max_calibration_error: 0.2
  resamples: 500
"""
# The README speaks of MNIST: the model has the name that its paths have.
AS_IN_README = SMALL + "serving: {model_name: mnist}\n"


@dataclass(frozen=True)
class Project:
    """A folder with a configuration; the home is `.bnpipe` in it, as for a user."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / ".bnpipe"

    def start(self, *words: str, code: str = "", **environ: str) -> subprocess.Popen[str]:
        command = ["-c", code] if code else ["-m", "bnpipe.pipeline"]
        return subprocess.Popen(
            [sys.executable, *command, *words],
            cwd=self.folder,
            env=environment(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, exit_code: int = 0, code: str = "", **environ: str) -> str:
        """Runs a command, expects its exit code, returns what it wrote to stdout."""
        child = self.start(*words, code=code, **environ)
        out, err = child.communicate()
        assert child.returncode == exit_code, f"{words}: exit {child.returncode}\n{out}\n{err}"
        return out

    def fail(self, *words: str, exit_code: int, **environ: str) -> str:
        """Runs a command that must fail, returns its one line on stderr."""
        child = self.start(*words, **environ)
        out, err = child.communicate()
        assert child.returncode == exit_code, f"{words}: exit {child.returncode}\n{out}\n{err}"
        lines = err.strip().splitlines()
        assert len(lines) == 1, err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in out
        return lines[0]

    def json(self, *words: str) -> Any:
        return json.loads(self.call(*words, "--json"))

    def copied_to(self, folder: Path) -> "Project":
        return Project(shutil.copytree(self.folder, folder / "project", symlinks=True))

    def typed(self, text: str) -> str:
        """What a shell prints that is given these lines in a checkout."""
        # -o: a test does not bring the environment that it runs in up to date with the lock file.
        make = "make() { command make -o .venv/.installed VENV=.venv PYTHON=false $@; }"
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{make}\n{text}"],
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def forgetful(self, folder: Path, step: str) -> "Project":
        """Another project, in which all was done that this one did, but for a step and its runs."""
        home = folder / ".bnpipe"
        for name in ("objects", "steps", "cache"):
            shutil.copytree(self.home / name, home / name)
        shutil.copy(self.home / "format", home)
        (found,) = (s for s in self.json("show", "1")["steps"] if s["name"] == step)
        (home / "steps" / f"{found['key']}.json").unlink()
        return Project(folder)


MakeProject = Callable[..., Project]


class Run(NamedTuple):
    """What a command printed, and the run's own summary."""

    printed: str
    summary: dict[str, Any]


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> MakeProject:
    """Makes an empty project; `config` is the text of its bnpipe.yaml."""

    def make(config: str = SMALL) -> Project:
        return new_project(tmp_path_factory.mktemp("project") / "project", config)

    return make


def new_project(folder: Path, config: str = SMALL) -> Project:
    folder.mkdir()
    (folder / "bnpipe.yaml").write_text(config)
    return Project(folder)


def new_checkout(folder: Path, config: str) -> Project:
    """A folder that looks like a checkout with its environment, without state."""
    project = new_project(folder, config)
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "bnpipe.yaml":
            (folder / entry.name).symlink_to(entry)
    (folder / ".venv").symlink_to(sys.prefix)
    return project


RUN_AND_NAME_HEAVY_MODULES = """
import sys
from bnpipe.pipeline.cli import _main
code = _main(["run"])
print("heavy:", {"tensorflow", "apache_beam", "tensorflow_datasets"} & sys.modules.keys() or "none")
sys.exit(code)
"""


class First(NamedTuple):
    """A checkout where `make run` was typed, a copy of all as it was then, and a second run.

    The second tells which heavy modules it has imported.
    """

    project: Project
    run: Run
    kept: Project
    again: Run


@pytest.fixture(scope="session")
def first_run(made_once: MadeOnce) -> First:
    def make(folder: Path) -> First:
        project = new_checkout(folder / "checkout", AS_IN_README)
        run = Run(project.typed("make run"), project.json("show", "latest"))
        kept = project.copied_to(folder / "kept")
        again = Run(project.call(code=RUN_AND_NAME_HEAVY_MODULES), project.json("show", "latest"))
        return First(project, run, kept, again)

    return made_once("first_run", make)


@pytest.fixture(scope="session")
def first(first_run: First) -> Run:
    return first_run.run


@pytest.fixture(scope="session")
def kept(first_run: First) -> Project:
    """The project as the first run left it: to be copied, not to be changed."""
    return first_run.kept


def steps(summary: dict[str, Any]) -> dict[str, str]:
    """What happened to every step, by name."""
    return {step["name"]: step["action"] for step in summary["steps"]}


def digests(summary: dict[str, Any]) -> dict[str, Any]:
    """What every step but the pusher made: its output records the folder it pushed to."""
    return {s["name"]: s["outputs"] for s in summary["steps"] if s["name"] != "pusher"}


@pytest.fixture(scope="session")
def locally(made_once: MadeOnce) -> Project:
    """A project whose Beam pipelines ran in its own process: to be compared with."""

    def make(folder: Path) -> Project:
        project = new_project(folder / "project")
        project.call("run")
        return project

    return made_once("locally", make)


def outputs(project: Project, run: str = "latest") -> dict[str, Any]:
    """The digests of a run's artifacts by step, but for what names its folder."""
    return digests(project.json("show", run))
