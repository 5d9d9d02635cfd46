"""Data sets that cannot be used are refused before anything runs, TFDS's others are not."""

import subprocess
import sys
from pathlib import Path

import pytest

from bnpipe.data.errors import RequestError
from bnpipe.data.sources.checksums import RENDERED
from bnpipe.data.sources.dataset_check import FIT, check_suits
from bnpipe.data.sources.tfds_source import find, image_and_label


@pytest.mark.parametrize("dataset", sorted(FIT - {RENDERED}))
def test_sets_that_are_known_to_fit_do(dataset: str, tmp_path: Path) -> None:
    assert image_and_label(find(dataset, tmp_path)) == ("image", "label")


def test_a_set_with_colours_is_refused_with_its_shape(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"received image of shape \(32, 32, 3\)") as caught:
        check_suits("cifar10", tmp_path)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_unknown_configuration_gets_a_near_miss(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"did you mean --set data\.dataset=emnist/digits"):
        check_suits("emnist/digitz", tmp_path)


def test_no_process_is_started_for_what_is_known_or_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", None)  # would be called
    for dataset in FIT:
        check_suits(dataset, tmp_path)
    (tmp_path / "tfds" / "mnist_corrupted" / "spatter").mkdir(parents=True)
    check_suits("mnist_corrupted/spatter", tmp_path)
    with pytest.raises(RequestError, match="did you mean"):
        check_suits("mnits", tmp_path)


def test_without_an_answer_the_step_itself_has_the_last_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    check_suits("cifar10", tmp_path)
