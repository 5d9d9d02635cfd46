"""The layers that set arms apart, each against what it is made of."""

import dataclasses

import numpy as np
import pytest

from bnpipe.components.network import network
from bnpipe.components.network.batch_norm import BatchNorm
from bnpipe.components.study.arms import ARMS, FixedNorm, GhostNorm, MovingNorm, NoisyNorm
from bnpipe.components.study.measures import Probe


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(3.0, 2.0, (32, 5)).astype(np.float32)


def asked(layer, x):
    """Its outputs in training, and at inference afterwards."""
    return layer(x, training=True).numpy(), layer(x, training=False).numpy()


def test_groups_as_large_as_the_batch_are_batch_normalisation(x):
    ghost, whole = asked(GhostNorm(32, momentum=0.5), x), asked(BatchNorm(momentum=0.5), x)
    np.testing.assert_allclose(ghost, whole, atol=1e-5)


def test_groups_are_normalised_apart(x):
    received = GhostNorm(8)(x, training=True).numpy()
    parts = [BatchNorm()(part, training=True).numpy() for part in np.split(x, 4)]
    np.testing.assert_allclose(received, np.concatenate(parts), atol=1e-5)


def test_moving_statistics_in_training_are_those_of_inference(x):
    trained, inferred = asked(MovingNorm(momentum=0.5), x)
    np.testing.assert_allclose(trained, inferred, atol=1e-5)
    assert np.abs(trained - BatchNorm()(x, training=True).numpy()).max() > 0.1


def test_a_fixed_map_learns_no_statistics(x):
    layer = FixedNorm(momentum=0.5)
    first, _ = asked(layer, x)
    np.testing.assert_allclose(first, x / np.sqrt(1.001), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), 0.0)


def test_noise_comes_in_training_only_and_is_another_in_every_step(x):
    layer, plain = NoisyNorm(), BatchNorm()
    first, inferred = asked(layer, x)
    second = layer(x, training=True).numpy()
    without = plain(x, training=True).numpy()
    np.testing.assert_array_equal(inferred, plain(x, training=False).numpy())
    shifts = [(noisy - without).mean(0) for noisy in (first, second)]
    assert np.abs(shifts[0] - shifts[1]).max() > 0.1
    assert np.abs(shifts).max() < 1.0


@pytest.mark.parametrize("arm", ["none", "batch", "layer", "batch_dropout"])
def test_a_network_that_restarts_is_the_one_that_is_built(arm):
    params = dataclasses.replace(ARMS[arm].params(11, 7), hidden_units=(6,) * 11)
    expected = network.build(9, 3, params)
    model = network.build(9, 3, dataclasses.replace(params, seed=8))
    x = np.random.default_rng(0).random((20, 9), np.float32)
    model(x, training=True)
    network.restart(model, params)
    assert len(model.variables) == len(expected.variables)
    for variable, again in zip(expected.variables, model.variables, strict=True):
        np.testing.assert_array_equal(again.numpy(), variable.numpy(), err_msg=variable.path)
    np.testing.assert_array_equal(model(x, training=True), expected(x, training=True))


def test_arms_begin_with_the_same_dense_weights_and_he_with_them_scaled(data):
    kernels = {}
    for name in ("none", "batch", "noisy", "data_init", "he"):
        model = ARMS[name].build(data.features, data.classes, 2)
        ARMS[name].restart(model, 2, 5, data.validation)
        kernels[name] = [v.numpy() for v in model.variables if v.name == "kernel"]
    for name in ("batch", "noisy", "data_init"):
        for kernel, other in zip(kernels["none"], kernels[name], strict=True):
            np.testing.assert_array_equal(kernel, other)
    first = kernels["he"][0]
    np.testing.assert_allclose(first, kernels["none"][0] * ((36 + 64) / 36) ** 0.5, rtol=1e-6)
    assert first.var() == pytest.approx(2 / 36, rel=0.1)


def test_standardized_inputs_have_no_mean_and_the_variance_one(data):
    images = data.train.features.copy()
    images[:, 3] = 0.25  # a pixel that never changes
    plain = ARMS["none"].build(data.features, data.classes, 2)
    model = ARMS["standardized"].build(data.features, data.classes, 2, images)
    for network_ in (plain, model):
        ARMS["none"].restart(network_, 2, 5, data.validation)
    scaled = (images - images.mean(0)) / np.sqrt(images.var(0) + 1e-3)
    assert scaled[:, 4:].std(0) == pytest.approx(1, abs=0.05)
    for training in (True, False):
        received = model(images[:100], training=training).numpy()
        np.testing.assert_allclose(received, plain(scaled[:100]).numpy(), atol=1e-4)
    assert [v.path for v in model.variables] == [v.path for v in plain.variables]
    tapped = [
        Probe(*of, data.train.labels[:9]) for of in ((model, 2, images[:9]), (plain, 2, scaled[:9]))
    ]
    inputs, expected = (probe.gradients()[1] for probe in tapped)
    np.testing.assert_allclose(inputs, expected, atol=1e-4)


def test_statistics_that_begin_with_those_of_images_normalise_them(data):
    model = ARMS["data_init"].build(data.features, data.classes, 2)
    ARMS["data_init"].restart(model, 2, 5, data.validation)
    import keras

    normalized = keras.Model(model.input, model.get_layer("hidden_2_normalization").output)
    y = normalized(data.validation.features, training=True).numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(0), 1, atol=0.02)
