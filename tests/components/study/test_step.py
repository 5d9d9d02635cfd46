"""A whole small study: killed and gone on with, and with what it cannot be made of."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnpipe.components.network.params import TrainingError
from bnpipe.components.study import COMPONENT, Inputs, Params
from bnpipe.components.study.claims import claims_of
from bnpipe.components.study.results import FILE, read
from bnpipe.components.study.verdicts import judge
from bnpipe.components.study.work import StudyError
from bnpipe.data.sources.digit_renderer import draw_chunk
from bnpipe.pipeline.report.study import render
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


def test_a_small_study_of_drawn_digits_from_images_to_verdicts(
    write_examples: Any, tmp_path: Path
) -> None:
    images, labels = draw_chunk(0, "train", 0)
    pixels = images.reshape(len(labels), -1) / np.float32(255)
    rows = {"train": slice(832), "validation": slice(832, 872), "test": slice(872, 1000)}
    digits = {name: (pixels[of], labels[of]) for name, of in rows.items()}
    examples = write_examples(tmp_path / "examples", digits, (28, 28), 10)
    assert start(examples.path, tmp_path, 2).wait() == 0
    trainings = read(tmp_path / "study")
    assert {t.steps for t in trainings} == {832 // 32}
    trained = {(t.experiment, t.arm): t for t in trainings}
    normalised = trained["custom", "custom_batch"]
    assert normalised.accuracy_by_batch is not None
    # After 26 steps digits are told apart, but by the article's layer only in company.
    alone, together = (normalised.accuracy_by_batch[size] for size in ("1", "32"))
    assert alone < 0.2 < 0.3 < together
    assert trained["main", "none"].test_accuracy != trained["main", "batch"].test_accuracy
    findings = judge(claims_of(trainings))
    assert [f.verdict for f in findings] == ["not decided here"] * 6
    assert "has 2 pairs, and 8 is the least" in findings[2].sentence
    page = render(trainings, findings, "rendered_digits")
    assert "drawn digits, not MNIST" in page
    assert page.count("<svg") >= 2


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
        ("custom", "custom_batch", 1),
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
    expected = f"split {split}: expected at least .*, received 0|the {split} split is empty"
    with pytest.raises((StudyError, TrainingError), match=expected):
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
