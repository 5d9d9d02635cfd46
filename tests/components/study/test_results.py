"""The record of a training: what is written is read again, and what is wrong is said."""

import dataclasses
from pathlib import Path

import pytest

from bnpipe.components.artifacts import ArtifactError
from bnpipe.components.study import results
from bnpipe.components.study.results import Shift, Study, Training

ONE = Training(
    experiment="main",
    arm="batch",
    seed=3,
    train_images=55000,
    steps=17190,
    curve_steps=(25, 50),
    curve_accuracy=(0.5, 0.75),
    validation_accuracy=0.975,
    gradient_steps=(0, 100),
    gradient_ratio=(0.5, float("nan")),
    shift=Shift(
        steps=(100,),
        moved=(0.1,),
        moved_15=(0.05,),
        moved_50=(0.1,),
        moved_85=(0.2,),
        gradient_change=(0.3,),
        gradient_cosine=(0.9,),
    ),
    accuracy_by_batch={"1": 0.1, "256": 0.97},
)


def test_what_is_written_is_read_again_and_is_the_same_bytes_twice(tmp_path: Path) -> None:
    other = dataclasses.replace(ONE, seed=4, gradient_ratio=None)
    results.write(tmp_path, [ONE, other])
    first = (tmp_path / results.FILE).read_bytes()
    back = results.read(tmp_path)
    assert back == [dataclasses.replace(ONE, gradient_ratio=(0.5, None)), other]
    results.write(tmp_path, back)
    assert (tmp_path / results.FILE).read_bytes() == first
    Study("study.study", tmp_path).check()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"seed": 3', '"seed": -3'), "line 1: seed: Input should be greater than or equal to 0"),
        (('"arm"', '"arms"'), "line 1: arm: Field required"),
        (("[25, 50]", "[25]"), "expected as many steps as values"),
        (("0.975", "97.5"), "line 1: validation_accuracy: Input should be less than or equal to 1"),
        (('"main"', '"maine"'), "line 1: experiment: Input should be"),
        (("}\n", "\n"), "line 1: it: Invalid JSON"),
    ],
)
def test_a_line_that_is_no_training_is_refused_in_one_line(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    results.write(tmp_path, [ONE])
    file = tmp_path / results.FILE
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(ArtifactError) as error:
        Study("study.study", tmp_path).check()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_training_that_is_there_twice_and_an_empty_study_are_refused(tmp_path: Path) -> None:
    results.write(tmp_path, [ONE, ONE])
    with pytest.raises(ArtifactError, match="is there twice"):
        results.read(tmp_path)
    results.write(tmp_path, [])
    with pytest.raises(ArtifactError, match=r"trainings\.jsonl is empty"):
        Study("study.study", tmp_path).check()
