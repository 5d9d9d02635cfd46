"""Modules that hide others: they are named, whatever they break."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bnpipe.pipeline.shadows import shadows
from tests.child import environment


def under(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`bnpipe` with a folder on PYTHONPATH."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "bnpipe.pipeline", *words],
        cwd=folder,
        env=environment(PYTHONPATH=str(folder), BNPIPE_HOME=str(folder / "home")),
        text=True,
        capture_output=True,
    )


def test_here_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" in p])
    assert shadows() == []


def test_a_module_of_each_kind_that_is_hidden_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("queue.py", "numpy/__init__.py", "bnpipe/data/__init__.py", "own.py", "a/x.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "none"), *sys.path])
    assert [pair for pair in shadows() if pair[1].startswith(str(tmp_path))] == [
        ("bnpipe.data", str(tmp_path / "bnpipe" / "data")),
        ("numpy", str(tmp_path / "numpy")),
        ("queue", str(tmp_path / "queue.py")),
    ]


def test_doctor_names_what_hides_a_library_that_nothing_starts_without(tmp_path: Path) -> None:
    (tmp_path / "typer.py").touch()
    done = under(tmp_path, "doctor")
    hidden, broken = done.stdout.splitlines()
    assert done.returncode == 1 and not done.stderr
    assert hidden.startswith("!!  module typer") and hidden.endswith(
        f"hidden by {tmp_path}/typer.py"
    )
    assert broken.startswith("!!  bnpipe") and "AttributeError" in broken
    checks = json.loads(under(tmp_path, "doctor", "--json").stdout)
    assert {
        "name": "module typer",
        "ok": False,
        "sentence": f"hidden by {tmp_path}/typer.py",
    } in checks


def test_every_verb_says_what_is_hidden_instead_of_calling_it_a_bug(tmp_path: Path) -> None:
    (tmp_path / "typer.py").touch()
    done = under(tmp_path, "plan")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and not done.stdout
    assert line.endswith(f"module typer is hidden by {tmp_path}/typer.py → bnpipe doctor")
