"""The network's own dropout: Keras' layer in all but where its numbers come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnpipe.components.network.network import Dropout

ONES = np.ones((200, 50), np.float32)


def draws(layer: Dropout, steps: int = 2) -> list[np.ndarray]:
    return [layer(ONES, training=True).numpy() for _ in range(steps)]


def test_as_many_are_dropped_as_the_rate_says_and_the_mean_stays() -> None:
    first, second = draws(Dropout(0.2, seed=3))
    assert set(np.unique(first)) == {0.0, np.float32(1 / 0.8)}
    # Four standard deviations of 10,000 draws.
    assert np.mean(first == 0) == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 10_000) ** 0.5)
    assert (first != second).any()


def test_one_seed_gives_the_same_in_an_xla_program_and_outside_of_one() -> None:
    expected, other = (draws(Dropout(0.3, seed=seed)) for seed in (5, 6))
    layer = Dropout(0.3, seed=5)
    layer(ONES)  # builds it
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    for step in expected:
        np.testing.assert_array_equal(compiled(ONES).numpy(), step)
    assert (expected[0] != other[0]).any()


def test_an_answer_and_a_stored_model_know_no_dropout(tmp_path) -> None:
    layer = Dropout(0.9, seed=1)
    np.testing.assert_array_equal(layer(ONES).numpy(), ONES)
    model = keras.Sequential([keras.Input((50,)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0], Dropout)
    np.testing.assert_array_equal(loaded(ONES).numpy(), ONES)


def test_gradients_reach_what_was_kept() -> None:
    inputs = tf.constant(ONES)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = Dropout(0.5, seed=2)(inputs, training=True)
    np.testing.assert_array_equal(tape.gradient(outputs, inputs).numpy(), outputs.numpy())
