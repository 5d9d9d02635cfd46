"""Scaling that was done twice, or not at all, is noticed; dim images pass."""

from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.errors import DataError
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.data.records.examples import encode
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.scaling_check import check_scaled_once

RNG = np.random.default_rng(0)


def shard(path: Path, features: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"features": features.reshape(len(features), -1).astype(np.float32)}
    path.write_bytes(frame(encode(columns)).tobytes())
    return path


def images(brightest: int, count: int = 50) -> np.ndarray:
    pixels = RNG.integers(0, brightest + 1, (count, 4, 4)).astype(np.uint8)
    pixels[0, 0, 0] = brightest
    return pixels


@pytest.mark.parametrize("brightest", [2, 3, 80, 252, 253, 255])
def test_dim_and_bright_images_pass(tmp_path: Path, brightest: int) -> None:
    check_scaled_once([shard(tmp_path / "x", flatten_and_scale(images(brightest)))], "transform")


def test_every_grey_level_passes_however_it_was_divided(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    check_scaled_once([shard(tmp_path / "x", flatten_and_scale(levels))], "transform")
    check_scaled_once([shard(tmp_path / "y", levels.astype(np.float32) / 255)], "transform")


@pytest.mark.parametrize("brightest", [2, 80, 255])
def test_scaling_twice_is_noticed(tmp_path: Path, brightest: int) -> None:
    twice = flatten_and_scale(images(brightest)) / np.float32(255)
    with pytest.raises(DataError, match=r"transform: .*scaled twice"):
        check_scaled_once([shard(tmp_path / "x", twice)], "transform")


def test_binary_images_that_were_scaled_twice_are_noticed(tmp_path: Path) -> None:
    """Their only levels, 0 and 255, become 0 and 1/255: multiples of 1/255 all the same."""
    twice = flatten_and_scale(images(1) * 255) / np.float32(255)
    with pytest.raises(DataError, match=r"expected a feature above 1/255, .* scaled twice"):
        check_scaled_once([shard(tmp_path / "x", twice)], "transform")


@pytest.mark.parametrize("brightest", [2, 80, 255])
def test_scaling_that_was_left_out_is_noticed(tmp_path: Path, brightest: int) -> None:
    with pytest.raises(DataError, match=r"transform: .*scaled not at all"):
        check_scaled_once([shard(tmp_path / "x", images(brightest))], "transform")


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, 1.0000001, 0.5, 1 / 256])
def test_values_that_no_pixel_has_are_noticed(tmp_path: Path, value: float) -> None:
    with pytest.raises(DataError, match=r"expected features in|expected multiples of 1/255"):
        check_scaled_once([shard(tmp_path / "x", np.array([[1.0, value]]))], "transform")


def test_one_wrong_shard_is_named_with_its_offset(tmp_path: Path) -> None:
    right = flatten_and_scale(images(255))
    good = shard(tmp_path / "Split-train" / "a", right)
    bad = shard(tmp_path / "Split-test" / "b", right / 255)
    with pytest.raises(DataError, match="Split-test/b at offset 0: expected multiples"):
        check_scaled_once([good, bad], "transform")


def test_a_dark_split_beside_bright_ones_passes(tmp_path: Path) -> None:
    dark = shard(tmp_path / "dark", np.zeros((3, 16)))
    check_scaled_once([shard(tmp_path / "x", flatten_and_scale(images(99))), dark], "transform")
    with pytest.raises(DataError, match="received at most 0 over 3 images"):
        check_scaled_once([dark], "transform")
