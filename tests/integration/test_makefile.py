"""`make` picks a Python that can run the project, and installs exactly the lock."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT
from tests.tiny_wheels import tiny_wheel

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
    for tool in (
        "make",
        "bash",
        "sh",
        "sed",
        "expand",
        "tail",
        "awk",
        "rm",
        "touch",
        "env",
        "mkdir",
        "ln",
    ):
        found = shutil.which(tool)
        if found:
            (tools / tool).symlink_to(found)
    return tmp_path


def add_python(checkout: Path, name: str, said: str, exit_code: int) -> None:
    path = checkout / "bin" / name
    path.write_text(STUB.format(said=said, exit_code=exit_code))
    path.chmod(0o755)


def make(checkout: Path, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "make"), *words],
        cwd=checkout,
        env={"PATH": str(checkout / "bin"), "HOME": os.environ.get("HOME", "/"), **environ},
        capture_output=True,
        text=True,
        timeout=600,
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


# Builds the checkout's own distribution: setuptools is not in the lock of the test.
BACKEND = """\
from pathlib import Path
from tiny_wheels import tiny_wheel


def build_editable(folder, config_settings=None, metadata_directory=None):
    return tiny_wheel(Path(folder), "bnpipe", "0.1.0").name
"""
BUILD_SYSTEM = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
# What CPython 3.11.0 brought.
OLDEST_PIP = "pip==22.3"
OLDEST_PIP_SHA256 = "1daab4b8d3b97d1d763caeb01a4640a2250a0ea899e257b1e44b9eded91e15ab"


@pytest.fixture
def index(checkout: Path) -> Path:
    """A folder of wheels that is all that pip can see, and a checkout whose lock names three."""
    folder = checkout / "index"
    folder.mkdir()
    locked = [
        tiny_wheel(folder, "asking", "1.0", requires=["asked[more]"]),
        tiny_wheel(
            folder, "asked", "1.0", extras=["more"], requires=['needed>=1; extra == "more"']
        ),
        tiny_wheel(folder, "needed", "1.0"),
    ]
    # Released after the lock was written.
    tiny_wheel(folder, "asked", "2.0", extras=["more"], requires=['needed>=2; extra == "more"'])
    tiny_wheel(folder, "needed", "2.0")
    lines = [
        f"{wheel.name.split('-')[0]}==1.0 \\\n"
        f"    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"
        for wheel in locked
    ]
    (checkout / "requirements.lock").write_text("".join(lines))
    (checkout / "pyproject.toml").write_text(BUILD_SYSTEM)
    (checkout / "backend.py").write_text(BACKEND)
    shutil.copy(ROOT / "tests" / "tiny_wheels.py", checkout)
    return folder


@pytest.fixture(scope="session")
def oldest_pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the oldest pip that a supported Python brings."""
    if sys.version_info >= (3, 12):
        pytest.skip(f"{OLDEST_PIP} came with CPython 3.11.0 and does not run on later minors")
    folder = tmp_path_factory.mktemp("pip")
    (folder / "pip.txt").write_text(f"{OLDEST_PIP} --hash=sha256:{OLDEST_PIP_SHA256}\n")
    download = ["download", "--no-deps", "--require-hashes", "-r", "pip.txt"]
    pip = [sys.executable, "-m", "pip", "--retries=1", *download]
    if subprocess.run(pip, cwd=folder, capture_output=True).returncode:
        pytest.skip(f"{OLDEST_PIP} could not be fetched")
    (wheel,) = folder.glob("pip-*.whl")
    return wheel


@pytest.mark.parametrize("pip", ["own", "oldest"])
def test_the_lock_is_installed_whatever_was_released_since(
    checkout: Path, index: Path, pip: str, request: pytest.FixtureRequest
) -> None:
    python = checkout / "bin" / "python3"
    script = f'#!/bin/sh\n"{sys.executable}" "$@" || exit\n'
    if pip == "oldest":
        wheel = request.getfixturevalue("oldest_pip")
        install = f'.venv/bin/python -m pip install -q --no-deps --no-index "{wheel}"'
        script += f'if [ "$1 $2" = "-m venv" ]; then {install}; fi\n'
    python.write_text(script)
    python.chmod(0o755)
    done = make(checkout, "venv", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index))
    assert done.returncode == 0, done.stdout + done.stderr
    installed = subprocess.run(
        [checkout / ".venv" / "bin" / "python", "-m", "pip", "list", "--format=freeze"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout.splitlines()
    assert {"asking==1.0", "asked==1.0", "needed==1.0", "bnpipe==0.1.0"} <= {*installed}
    assert (OLDEST_PIP in installed) == (pip == "oldest")
