"""Training that starts from the weights of an earlier model."""

import dataclasses

import numpy as np
import pytest

from bnpipe.components.artifacts import Model
from bnpipe.components.network import network
from bnpipe.components.trainer import Inputs, Outputs, Params, TrainingError, run
from bnpipe.components.trainer.warm_start import take_weights

# Without a full batch there is no XLA program to compile, and a step is an epoch.
PARAMS = Params(
    hidden_units=(8, 6), batch_size=2000, epochs=4, learning_rate=0.1, momentum=0.5, dropout=0.1
)
DIGEST = "sha256-of-the-start"


@pytest.fixture(scope="module")
def train(context, blob_examples, tmp_path_factory):
    place = tmp_path_factory.mktemp("warm_start")

    def train(name, start=None, progress=lambda done, total, note: None, **changes):
        folder = place / name
        folder.mkdir(exist_ok=True)
        model = Model("trainer.model", folder)
        ctx = context(place / f"{name}_scratch", progress)
        if start is not None:
            ctx = dataclasses.replace(ctx, input_digests={**ctx.input_digests, "start": DIGEST})
        params = dataclasses.replace(PARAMS, **changes)
        run(Inputs(examples=blob_examples, start=start), Outputs(model=model), params, ctx)
        return model

    return train


def content(model):
    names = ("training.weights.h5", "history.json", "model_card.json", "saved_model/saved_model.pb")
    return {name: (model.path / name).read_bytes() for name in names}


def first_loss(model):
    return model.read_json("history.json")["epochs"][0]["train_loss"]


@pytest.fixture(scope="module")
def start(train):
    return train("start", epochs=20)


def test_a_warm_run_goes_on_where_the_other_ended(train, start):
    warm = train("warm", start)
    assert first_loss(warm) < 0.7 * first_loss(start)
    assert warm.read_json("model_card.json")["warm_started_from"] == DIGEST
    assert start.read_json("model_card.json")["warm_started_from"] is None
    assert content(train("again", start)) == content(warm)


def test_a_killed_warm_run_ends_in_the_same_bits(train, start):
    expected = train("whole", start, checkpoint_seconds=0)

    class Killed(Exception):
        pass

    def die(done, total, note):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train("resumed", start, die, checkpoint_seconds=0)
    assert content(train("resumed", start, checkpoint_seconds=0)) == content(expected)


@pytest.mark.parametrize("normalization", ["batch", "custom_batch", "layer", "none"])
def test_the_weights_are_taken_to_the_bit(normalization, tmp_path):
    params = dataclasses.replace(PARAMS, normalization=normalization)
    trained = network.build(20, 3, params)
    generator = np.random.default_rng(0)
    for variable in trained.weights:
        variable.assign(generator.random(variable.shape))
    trained.save_weights(tmp_path / "training.weights.h5")
    # Dropout has no weights: it may differ.
    net = network.build(20, 3, dataclasses.replace(params, dropout=0.0, seed=1))
    take_weights(net, Model("start", tmp_path))
    for expected, received in zip(trained.weights, net.weights, strict=True):
        np.testing.assert_array_equal(received, expected, err_msg=expected.path)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"hidden_units": (8, 7)}, "expected hidden_2 with 8x7 and 7, received 8x6 and 6"),
        ({"hidden_units": (8,)}, "expected logits with 8x3 and 3, received 6x3 and 3"),
        (
            {"normalization": "none"},
            "expected hidden_1_normalization with no weights, received 8 and 8 and 8 and 8",
        ),
        (
            {"normalization": "layer"},
            "expected hidden_1_normalization with 8 and 8, received 8 and 8 and 8 and 8",
        ),
    ],
)
def test_another_network_is_named_with_what_differs(changes, difference, tmp_path):
    network.build(20, 3, PARAMS).save_weights(tmp_path / "training.weights.h5")
    net = network.build(20, 3, dataclasses.replace(PARAMS, **changes))
    before = [variable.numpy() for variable in net.weights]
    with pytest.raises(TrainingError, match=difference) as caught:
        take_weights(net, Model("start", tmp_path))
    assert "trainer.warm_start=null" in caught.value.hint
    for old, new in zip(before, net.weights, strict=True):
        np.testing.assert_array_equal(old, new)
