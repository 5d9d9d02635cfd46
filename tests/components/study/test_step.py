"""A whole small study: killed and gone on with, and with what it cannot be made of."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnpipe.components.study import COMPONENT, Inputs, Params
from bnpipe.components.study.results import FILE, read
from bnpipe.components.study.work import StudyError
from tests.child import WITH_TESTS, environment
from tests.components.study import study_alone
from tests.waiting import wait_for


def start(examples: Path, folder: Path, workers: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", study_alone.__name__, str(examples), str(folder), str(workers)]
    return subprocess.Popen(words, env=environment(**WITH_TESTS))


def trained(folder: Path) -> list[Path]:
    return sorted((folder / "scratch").glob("main-*.json"))


def workers_of(folder: Path) -> list[str]:
    words = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline"))
    found = []
    while True:
        try:
            line = next(words).decode()
        except StopIteration:
            return found
        except OSError:  # it has just ended
            continue
        if "study.worker" in line and str(folder) in line:
            found.append(line)


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on_to_the_same_bytes(
    write_examples: Any, make_blobs: Any, tmp_path: Path
) -> None:
    sizes = {"train": 2000, "validation": 100, "test": 300}
    examples = write_examples(tmp_path / "examples", make_blobs(sizes, (8, 8), 10), (8, 8), 10)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    first = start(examples.path, killed, 2)
    wait_for(lambda: trained(killed))
    first.kill()
    first.wait()
    wait_for(lambda: not workers_of(killed))
    before = {path: path.stat().st_mtime_ns for path in trained(killed)}
    assert not (killed / "study" / FILE).exists()

    assert start(examples.path, killed, 1).wait() == 0
    assert start(examples.path, whole, 2).wait() == 0
    assert (killed / "study" / FILE).read_bytes() == (whole / "study" / FILE).read_bytes()
    assert before.items() <= {p: p.stat().st_mtime_ns for p in trained(killed)}.items()
    assert [(t.experiment, t.arm, t.seed) for t in read(whole / "study")] == [
        ("main", "batch", 0),
        ("custom", "custom_batch", 0),
        ("main", "batch", 1),
        ("main", "none", 0),
        ("main", "none", 1),
    ]
    assert json.loads((killed / "scratch/task.json").read_text())["classes"] == 10


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_with_too_few_examples_is_told(
    split: str,
    write_examples: Any,
    make_blobs: Any,
    context: Callable[[Path], Any],
    tmp_path: Path,
) -> None:
    sizes = {"train": 64, "validation": 10, "test": 10, split: 0}
    examples = write_examples(tmp_path / "examples", make_blobs(sizes), (4, 5), 3)
    with pytest.raises(StudyError, match=f"split {split}: expected at least .*, received 0"):
        COMPONENT.run(
            Inputs(examples=examples),
            COMPONENT.Outputs(study=None),
            Params(),
            context(tmp_path / "scratch"),
        )


def test_a_process_that_dies_is_told_with_its_last_words(
    write_examples: Any,
    make_blobs: Any,
    context: Callable[[Path], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bnpipe.components.study import work

    monkeypatch.setattr(work, "WORKER", "bnpipe.no.such_worker")
    sizes = {"train": 64, "validation": 10, "test": 10}
    examples = write_examples(tmp_path / "examples", make_blobs(sizes), (4, 5), 3)
    with pytest.raises(StudyError, match=r"ended with code 1; .*No module") as caught:
        COMPONENT.run(
            Inputs(examples=examples),
            COMPONENT.Outputs(study=None),
            Params(),
            context(tmp_path / "scratch"),
        )
    assert "goes on" in caught.value.hint
