"""`make` picks a Python that can run the project, or says in one line that there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT

STUB = """#!/bin/sh
echo '{said}'
exit {exit_code}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without an environment, and a PATH without any Python."""
    for name in ("Makefile", "requirements.lock", "setup.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("make", "bash", "sh", "sed", "expand", "tail", "awk", "rm", "touch", "env"):
        found = shutil.which(tool)
        if found:
            (tools / tool).symlink_to(found)
    return tmp_path


def add_python(checkout: Path, name: str, said: str, exit_code: int) -> None:
    path = checkout / "bin" / name
    path.write_text(STUB.format(said=said, exit_code=exit_code))
    path.chmod(0o755)


def make(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "make"), *words],
        cwd=checkout,
        env={"PATH": str(checkout / "bin"), "HOME": os.environ.get("HOME", "/")},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_no_python_at_all(checkout: Path) -> None:
    done = make(checkout, "run")
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert told[0].startswith("bnpipe needs CPython 3.11, 3.12 or 3.13 with venv; found no python3")
    assert "make PYTHON=<path>" in told[0]
    assert not (checkout / ".venv").exists()


def test_unsuitable_pythons_are_named(checkout: Path) -> None:
    add_python(checkout, "python3", "CPython 3.9.2", 1)
    add_python(checkout, "python3.11", "PyPy 3.11.9", 1)
    done = make(checkout, "run")
    assert done.returncode == 2
    told = done.stderr.splitlines()[0]
    assert "found python3.11 (PyPy 3.11.9), python3 (CPython 3.9.2)." in told


def test_suitable_python_makes_the_environment(checkout: Path) -> None:
    add_python(checkout, "python3.11", "CPython 3.11.9", 1)
    add_python(checkout, "python3.12", "CPython 3.12.1", 0)
    done = make(checkout, "venv")
    assert "Passed over: python3.11 (CPython 3.11.9)" in done.stdout
    assert "Creating .venv with CPython 3.12.1" in done.stdout


def test_help_lists_the_targets(checkout: Path) -> None:
    listed = {line.split()[1] for line in make(checkout).stdout.splitlines()}
    assert {"run", "test", "test-slow", "lint", "lock", "clean"} <= listed
