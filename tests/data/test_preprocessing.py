"""The one flatten-and-scale function, and its inverse."""

import numpy as np

from bnpipe.data.preprocessing import flatten_and_scale, unscale

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 5, 7), np.uint8)


def test_pixels_are_divided_by_255_in_row_major_order() -> None:
    features = flatten_and_scale(IMAGES)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, IMAGES.reshape(64, 35) / 255.0, rtol=1.2e-7)
    assert flatten_and_scale(np.full((1, 1, 1), 255, np.uint8))[0, 0] == 1.0


def test_tensorflow_gives_the_same_bits_eagerly_and_in_a_graph() -> None:
    import tensorflow as tf

    every_pixel = np.arange(256, dtype=np.uint8).reshape(-1, 4, 4)
    expected = flatten_and_scale(every_pixel)
    np.testing.assert_array_equal(flatten_and_scale(tf.constant(every_pixel)).numpy(), expected)
    spec = tf.TensorSpec([None, 4, 4], tf.uint8)
    graph = tf.function(flatten_and_scale, input_signature=[spec])
    np.testing.assert_array_equal(graph(every_pixel).numpy(), expected)


def test_pixels_come_back_from_features() -> None:
    every_pixel = np.arange(256, dtype=np.uint8).reshape(-1, 4, 4)
    pixels = unscale(flatten_and_scale(every_pixel))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, every_pixel.reshape(-1, 16))


def test_a_value_that_no_pixel_has_is_the_nearest_pixel() -> None:
    features = np.array([[-3.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 7.0]], np.float32)
    np.testing.assert_array_equal(unscale(features), np.array([[0, 0, 1, 254, 255]], np.uint8))
