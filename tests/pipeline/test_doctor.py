"""doctor: what it looks at, and that a broken installation is told."""

import sys
from collections import namedtuple
from pathlib import Path

import pytest

from bnpipe.pipeline import doctor
from bnpipe.pipeline.doctor import Check, examine


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of TFMA imports TensorFlow in a child: not in every test."""
    monkeypatch.setattr(doctor, "_WHOLE_TFMA", "")


def checks(home: Path, archives: str | None = None) -> dict[str, Check]:
    return {c.name: c for c in examine(home, archives)}


def test_this_installation_is_whole(tmp_path: Path) -> None:
    found = checks(tmp_path)
    # Neither the free disk of the machine that runs the tests nor its lock is ours to judge.
    assert {n for n, c in found.items() if not c.ok} <= {"disk", "lock"}
    names = {
        "python",
        "tensorflow",
        "keras",
        "apache-beam",
        "package bnpipe.data",
        "TFMA is whole",
        "lock",
    }
    assert names <= set(found)
    assert all(c.sentence and "\n" not in c.sentence for c in found.values())


def test_examining_makes_nothing(tmp_path: Path) -> None:
    checks(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_broken_tfma_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_WHOLE_TFMA", "raise AttributeError('no ExtractEvaluate')")
    check = checks(tmp_path)["TFMA is whole"]
    assert (check.ok, check.sentence) == (False, "AttributeError: no ExtractEvaluate")


def test_another_version_than_the_locked_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "environment", lambda: {"python": "3.11", "numpy": "0.1"})
    check = checks(tmp_path)["lock"]
    assert not check.ok and check.sentence.startswith("numpy 0.1 (lock: ")


def test_a_missing_library_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "environment", lambda: {"tfx-bsl": "missing"})
    assert checks(tmp_path)["tfx-bsl"] == Check("tfx-bsl", False, "missing")


def test_an_old_python_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 0, "final", 0))
    assert not checks(tmp_path)["python"].ok


def test_a_package_of_ours_that_another_shadows_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    check = checks(tmp_path)["package bnpipe.data"]
    assert not check.ok and check.sentence.startswith("shadowed by ")


def test_a_nearly_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(10**10, 0, 10**6))
    check = checks(tmp_path / "a" / "b")["disk"]
    assert not check.ok and "0.0 GB free" in check.sentence


def test_the_archives_are_looked_for(tmp_path: Path) -> None:
    assert "archives" not in checks(tmp_path)
    none = checks(tmp_path, str(tmp_path / "none"))["archives"]
    assert not none.ok and "is not a folder" in none.sentence
    empty = checks(tmp_path, str(tmp_path))["archives"]
    assert not empty.ok and "missing: t10k-images-idx3-ubyte.gz, " in empty.sentence
    (tmp_path / "t10k-images-idx3-ubyte.gz").touch()
    found = checks(tmp_path, str(tmp_path))["archives"]
    assert not found.ok and "damaged: t10k-images-idx3-ubyte.gz; missing: " in found.sentence


def test_the_archives_are_those_of_the_data_set(mnist_archives: Path, tmp_path: Path) -> None:
    found = checks(tmp_path, str(mnist_archives))["archives"]
    assert found.ok and "intact: t10k-images-idx3-ubyte.gz, " in found.sentence
    others = {c.name: c for c in examine(tmp_path, str(mnist_archives), "kmnist")}["archives"]
    assert not others.ok and others.sentence.endswith("is the archive of mnist, not of kmnist")
    drawn = {c.name for c in examine(tmp_path, str(mnist_archives), "rendered_digits")}
    assert "archives" not in drawn


@pytest.mark.slow
def test_tfma_is_whole_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert checks(tmp_path)["TFMA is whole"].ok
