"""A training of a study is the product's, whatever was trained before with what was compiled."""

import dataclasses

import keras
import numpy as np
import pytest

from bnpipe.components.network import network
from bnpipe.components.network.examples import InMemory
from bnpipe.components.network.loop import Trainer, program_for
from bnpipe.components.study.arms import ARMS
from bnpipe.components.study.plan import Unit, scored_steps
from bnpipe.components.study.training import Bench, Data, _batches

UNIT = Unit("main", "batch", "adam", 2, 1e-3, 3, 3219, 120, frozenset({"curve", "test"}))


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


@pytest.mark.parametrize("arm", ["none", pytest.param("batch", marks=pytest.mark.slow)])
def test_100_steps_end_in_the_weights_of_the_product(arm, bench, data, tmp_path):
    """Of a network built and trained alone, after another seed and rate on the same bench."""
    one = bench(arm)
    one.restart(ARMS[arm], 0.03, 8)
    one.advance(8, 3219, 0, 150)
    one.restart(ARMS[arm], 2e-3, 3)
    assert one.advance(3, 3219, 0, 100)

    kind = {"none": "none", "batch": "custom_batch"}[arm]
    params = dataclasses.replace(
        network.Params(), normalization=kind, seed=3, epochs=1, learning_rate=2e-3
    )
    # Its epoch is the 100 batches, and has no rest.
    rows = np.concatenate([batch.ravel() for batch in _batches(3, 3219, 0, 100, 1000)])
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, 0]))).permutation(3200)
    features, labels = (np.empty_like(a[:3200]) for a in (data.train.features, data.train.labels))
    features[order], labels[order] = data.train.rows(rows)
    model = network.build(36, 10, params)
    train = InMemory(features, labels)
    program = program_for(model, params, train)
    Trainer(program, params, train, data.validation, tmp_path, lambda *_: None).fit()
    expected, received = weights(model), weights(one.model)
    assert expected.keys() == received.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(received[path], value, rtol=0, atol=1e-5, err_msg=path)


def test_features_that_no_image_has_make_no_difference(data):
    """The networks that are trained without them are those that are trained with them."""
    live = np.arange(36) % 5 > 0

    def cut(to):
        splits = {
            name: InMemory(getattr(data, name).features * live, getattr(data, name).labels)
            for name in ("train", "validation", "test")
        }
        splits = {n: InMemory(s.features[:, to].copy(), s.labels) for n, s in splits.items()}
        return Data(**splits, doubtful=data.doubtful, classes=10, live=to)

    benches = [Bench(cut(to), ARMS["batch"], 2, "adam") for to in (np.full(36, True), live)]
    for he in (False, True):
        for bench in benches:
            bench.restart(dataclasses.replace(ARMS["batch"], he=he), 2e-3, 3)
            bench.advance(3, 3219, 0, 100)
        whole, without = (weights(bench.model) for bench in benches)
        for path, value in whole.items():
            expected = value[live] if path.startswith("hidden_1/kernel") else value
            np.testing.assert_allclose(without[path], expected, rtol=0, atol=1e-5, err_msg=path)


def test_the_last_batch_of_an_epoch_is_left_out_and_the_next_begins():
    cut = list(_batches(5, 70, 1, 5, 1000))
    assert [len(part) for part in cut] == [1, 2, 1]  # 70 images are two batches
    first = np.concatenate([part.ravel() for part in _batches(5, 70, 0, 2, 1)])
    assert len(set(first)) == 64
    np.testing.assert_array_equal(cut[0][0], first[32:])


def test_a_record_says_what_was_trained_and_comes_again(bench):
    (record,) = bench("none").train(dataclasses.replace(UNIT, arm="none"), 1e-3)
    assert record.curve_steps == (25, 50, 75, 100)
    assert record.curve_accuracy[-1] > record.curve_accuracy[0]
    assert (record.steps, record.seed, record.train_images) == (120, 3, 3219)
    assert record.test_accuracy != record.test_accuracy_clean
    assert not record.diverged
    (other,) = bench("none").train(dataclasses.replace(UNIT, arm="none", seed=4), 0.1)
    assert other.curve_accuracy != record.curve_accuracy
    assert bench("none").train(dataclasses.replace(UNIT, arm="none"), 1e-3) == [record]


def test_its_accuracy_is_the_mean_over_the_last_tenth(bench):
    (record,) = bench("none").train(dataclasses.replace(UNIT, arm="none"), 1e-3)
    one = bench("none")
    one.restart(ARMS["none"], 1e-3, UNIT.seed)
    ends, done = [], 0
    for step in sorted(scored_steps(UNIT.steps)):
        one.advance(UNIT.seed, UNIT.images, done, step)
        ends.append(one._scores(UNIT))
        done = step
    for name in ("test_accuracy", "test_accuracy_clean", "train_accuracy"):
        assert len({end[name] for end in ends}) > 1
        assert getattr(record, name) == pytest.approx(np.mean([end[name] for end in ends]))


@pytest.mark.parametrize(
    ("arm", "steps"),  # the accuracy is measured after 100 steps, as is shift, and 101
    [("batch", 104), ("batch", 103), pytest.param("noisy", 120, marks=pytest.mark.slow)],
)
def test_measuring_does_not_change_what_is_trained(arm, steps, bench):
    without = dataclasses.replace(UNIT, arm=arm, steps=steps, measures=frozenset({"test"}))
    measured = frozenset({"test", "curve", "shift", "gradients"})
    (expected,) = bench(arm).train(without, 1e-3)
    ended = weights(bench(arm).model)
    (record,) = bench(arm).train(dataclasses.replace(without, measures=measured), 1e-3)
    for path, value in weights(bench(arm).model).items():
        np.testing.assert_array_equal(value, ended[path], err_msg=path)
    assert record.test_accuracy == expected.test_accuracy
    assert record.shift is not None
    assert record.shift.steps == (100,)
    assert record.gradient_steps[0] == 0
    assert len(record.gradient_norms) == 2


def test_a_rate_that_no_network_survives_is_told(bench):
    unit = dataclasses.replace(UNIT, arm="none", optimizer="sgd", measures=frozenset())
    (record,) = bench("none", optimizer="sgd").train(unit, 1e30)
    assert record.diverged
    assert record.test_accuracy is None


def test_the_article_s_layer_needs_company_at_inference(bench):
    unit = dataclasses.replace(UNIT, measures=frozenset({"test", "batches"}))
    record, of_layer = bench("batch").train(unit, 1e-3)
    assert (of_layer.experiment, of_layer.arm) == ("custom", "custom_batch")
    assert of_layer.test_accuracy == bench("batch")._scores(unit)["test_accuracy"]  # these weights'
    assert of_layer.test_accuracy != record.test_accuracy
    by_batch = of_layer.accuracy_by_batch
    assert list(by_batch) == ["1", "2", "8", "32", "256"]
    assert by_batch["1"] < 0.2 < by_batch["256"]  # alone, every image looks alike


def test_weights_that_grow_change_no_output_behind_a_normalisation_and_shrink_the_gradient(data):
    """f(aW) = f(W), and its gradient by W at aW is 1/a of that at W."""
    params = dataclasses.replace(network.Params(), normalization="custom_batch", epsilon=1e-12)
    model = network.build(36, 10, params)
    kernel = model.get_layer("hidden_1").kernel
    features, labels = data.train.features[:64], data.train.labels[:64]

    def asked():
        import tensorflow as tf

        with tf.GradientTape() as tape:
            logits = model(features, training=True)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
        return logits.numpy(), tape.gradient(loss, kernel.value).numpy()

    logits, gradient = asked()
    kernel.assign(kernel * 8.0)
    scaled_logits, scaled_gradient = asked()
    np.testing.assert_allclose(scaled_logits, logits, atol=1e-4)
    np.testing.assert_allclose(8.0 * scaled_gradient, gradient, atol=1e-5)
