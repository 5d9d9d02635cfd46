"""Drawn digits."""

import numpy as np

from bnpipe.data.sources.digit_renderer import CHUNK, draw_chunk


def test_a_chunk_depends_on_seed_split_and_number_only() -> None:
    images, digits = draw_chunk(3, "train", 2)
    again, same = draw_chunk(3, "train", 2)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(digits, same)
    for other in ((4, "train", 2), (3, "test", 2), (3, "train", 1)):
        assert not np.array_equal(draw_chunk(*other)[0], images)


def test_images_are_grey_digits_on_black() -> None:
    images, digits = draw_chunk(0, "train", 0)
    assert images.shape == (CHUNK, 28, 28)
    assert images.dtype == np.uint8
    assert (images.reshape(CHUNK, -1).max(axis=1) == 255).mean() > 0.2
    assert images.reshape(CHUNK, -1).std(axis=1).min() > 5
    assert 20 < images.mean() < 60
    assert np.median(images[:, 0, 0]) < 25
    assert np.bincount(digits, minlength=10).min() > 60


def test_digits_can_be_told_apart_but_not_by_their_mean_alone() -> None:
    """The nearest class mean is a poor classifier; it must do better than chance, not well."""
    images, digits = draw_chunk(0, "train", 0)
    means = np.stack([images[digits == d].mean(axis=0).reshape(-1) for d in range(10)])
    unseen, truth = draw_chunk(0, "test", 0)
    flat = unseen.reshape(CHUNK, 1, -1).astype(np.float64)
    guess = ((flat - means) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.5 < (guess == truth).mean() < 0.97
