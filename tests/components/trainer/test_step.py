"""The step as a user sees it: files, facts, and what it says to bad input."""

import dataclasses
import json
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from bnpipe.components.artifacts import Model
from bnpipe.components.base import key_params
from bnpipe.components.network import network
from bnpipe.components.network.calibration import at_temperature
from bnpipe.components.trainer import Inputs, Outputs, Params, TrainingError, run

SMALL = Params(hidden_units=(8, 6), batch_size=20, epochs=2)
# Without a full batch there is no XLA program to compile: for tests of what comes after training.
QUICK = {"batch_size": 2000, "epochs": 4, "learning_rate": 0.1, "momentum": 0.5}


class Trained(typing.NamedTuple):
    model: Model
    facts: dict[str, typing.Any]

    def serve(self, features):
        served = tf.saved_model.load(str(self.model.saved_model))
        return served.signatures["serving_default"](features=features)


@pytest.fixture(scope="module")
def train(context, tmp_path_factory):
    def train(examples, **changes):
        folder, scratch = (tmp_path_factory.mktemp(name) for name in ("model", "scratch"))
        model = Model("trainer.model", folder)
        params = dataclasses.replace(SMALL, **changes)
        facts = run(Inputs(examples=examples), Outputs(model=model), params, context(scratch))
        model.check()
        return Trained(model, dict(facts))

    return train


@pytest.fixture(scope="module")
def quick(train, blob_examples):
    return train(blob_examples, **QUICK)


@pytest.fixture(scope="module")
def rows(blob_examples):
    from tests.transformed import read_transformed

    return read_transformed(blob_examples.shards("validation"))


def test_a_model_its_card_its_history_and_its_facts(train, blob_examples, rows):
    model, facts = trained = train(blob_examples, epochs=10, learning_rate=0.01)
    answers = trained.serve(rows.features)
    accuracy = np.mean(answers["class_id"].numpy() == rows.label)
    assert accuracy == pytest.approx(facts["validation_accuracy"])
    assert accuracy > 0.8

    card, history = model.read_json("model_card.json"), model.read_json("history.json")
    assert card["dataset"]["digest"] == "sha256-of-the-examples"
    assert card["dataset"]["synthetic"] is True
    assert card["params"] == json.loads(
        json.dumps(key_params(dataclasses.replace(SMALL, epochs=10, learning_rate=0.01)))
    )
    assert (card["params"]["device"], card["params"]["dtype"]) == ("cpu", "float32")
    assert card["versions"]["keras"] == keras.__version__
    assert card["metrics"]["validation_loss"] == history["epochs"][-1]["validation_loss"]
    assert card["folded_for_serving"] == ["hidden_1_normalization", "hidden_2_normalization"]
    assert len(history["epochs"]) == 10

    assert facts["folded_normalizations"] == 2
    assert facts["export_images_compared"] == 50 + 50  # validation and test
    assert facts["export_max_difference"] < 1e-5
    assert facts["steps"] == 10 * 11
    for name in ("train_seconds", "compile_seconds", "steps_per_second", "latency_us"):
        assert facts[name] > 0


def test_the_weights_file_gives_back_the_network(quick, rows):
    again = network.build(rows.features.shape[1], 3, SMALL)
    again.load_weights(quick.model.path / "training.weights.h5")
    np.testing.assert_allclose(
        tf.nn.softmax(again(rows.features)),
        quick.serve(rows.features)["probabilities"],
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("changes", "folded", "left"),
    [
        ({"normalization": "custom_batch"}, 2, 0),
        ({"fold_batch_norm": False}, 0, 2),
        ({"normalization_position": "after_activation"}, 0, 2),
        ({"normalization": "layer", "hidden_units": (8,)}, 0, 0),
        ({"normalization": "none", "dropout": 0.3}, 0, 0),
        ({"dtype": "float64", "precise_statistics": True}, 2, 0),
        ({"dtype": "mixed_bfloat16"}, 2, 0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_every_network_is_exported_with_its_own_answers(
    changes, folded, left, train, blob_examples
):
    model, facts = train(blob_examples, **QUICK, **changes)
    assert (facts["folded_normalizations"], facts["unfolded_normalizations"]) == (folded, left)
    assert facts["export_max_difference"] < 1e-5
    content = (model.saved_model / "saved_model.pb").read_bytes()
    (meta_graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    functions = meta_graph.graph_def.library.function
    normalizes = any(node.op == "Rsqrt" for f in functions for node in f.node_def)
    assert normalizes == (left > 0 or changes.get("normalization") == "layer")


@pytest.mark.parametrize("normalization", ["batch", "none"])
def test_probabilities_are_served_calibrated_only_when_asked(
    normalization, train, write_examples, make_blobs, tmp_path
):
    from tests.transformed import read_transformed

    splits = make_blobs({"train": 203, "validation": 200, "test": 50})
    examples = write_examples(tmp_path / "blobs", splits, (4, 5), 3)
    rows = read_transformed(examples.shards("validation"))
    plain, calibrated = (
        train(examples, **QUICK, normalization=normalization, calibrated=asked)
        for asked in (False, True)
    )
    cards = [trained.model.read_json("model_card.json") for trained in (plain, calibrated)]
    temperature = cards[0]["metrics"]["temperature"]
    assert temperature == cards[1]["metrics"]["temperature"] == plain.facts["temperature"]
    assert abs(np.log(temperature)) > 0.05
    assert 0 < cards[0]["metrics"]["temperature_error"] < 0.5
    before, after = (t.serve(rows.features)["probabilities"] for t in (plain, calibrated))
    np.testing.assert_allclose(after, at_temperature(before.numpy(), temperature), atol=1e-5)
    assert calibrated.facts["export_max_difference"] < 1e-5
    weights = [(t.model.path / "training.weights.h5").read_bytes() for t in (plain, calibrated)]
    assert weights[0] == weights[1]  # what a warm start begins with is as it was trained

    def loss(probabilities):
        return -np.log(probabilities.numpy()[np.arange(len(rows.label)), rows.label]).mean()

    assert loss(after) < loss(before)


def test_the_baseline_starts_from_the_same_dense_weights():
    candidate = network.build(20, 3, SMALL)
    baseline = network.build(20, 3, dataclasses.replace(SMALL, normalization="none"))
    for name in ("hidden_1", "hidden_2", "logits"):
        kernels = [net.get_layer(name).kernel.numpy() for net in (candidate, baseline)]
        np.testing.assert_array_equal(*kernels)
    assert not np.array_equal(candidate.layers[1].kernel, network_of_seed(1).layers[1].kernel)


def network_of_seed(seed):
    return network.build(20, 3, dataclasses.replace(SMALL, seed=seed))


def test_the_default_network_is_the_articles():
    net = network.build(784, 10, Params())
    kinds = [type(layer).__name__ for layer in net.layers]
    block = ["Dense", "BatchNormalization", "Activation"]
    assert kinds == ["InputLayer", *block, *block, "Dense"]
    assert net.count_params() == 784 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10 + 2 * 4 * 64


def test_one_class_and_one_example_can_be_trained(train, write_examples, make_blobs, tmp_path):
    splits = make_blobs({"train": 1, "validation": 0, "test": 0}, classes=1)
    trained = train(write_examples(tmp_path / "one", splits, (4, 5), 1))
    assert trained.facts["validation_accuracy"] is trained.facts["temperature"] is None
    answer = trained.serve(splits["train"][0])
    assert answer["probabilities"].numpy().tolist() == [[1.0]]
    assert trained.model.read_json("history.json")["epochs"][-1]["train_loss"] == 0


def test_one_class_of_many_can_be_all_there_is(train, write_examples, make_blobs, tmp_path):
    splits = make_blobs({"train": 45, "validation": 9, "test": 0})
    splits = {name: (features, labels * 0 + 2) for name, (features, labels) in splits.items()}
    examples = write_examples(tmp_path / "same", splits, (4, 5), 3)
    trained = train(examples, **QUICK | {"epochs": 20}, precise_statistics=True)
    assert trained.facts["validation_accuracy"] == 1
    answers = trained.serve(splits["validation"][0])
    assert set(answers["class_id"].numpy()) == {2}


def test_zeros_and_nan_at_serving_have_defined_answers(quick):
    features = np.zeros((3, 20), np.float32)
    features[1, 7] = np.nan
    probabilities = quick.serve(features)["probabilities"].numpy()
    assert np.isnan(probabilities[1]).all()
    assert quick.serve(features)["class_id"][1] == -1
    np.testing.assert_array_equal(probabilities[0], probabilities[2])
    assert probabilities[0].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("splits", "classes", "complaint"),
    [
        ({"train": 0, "validation": 5, "test": 0}, 3, "the train split is empty"),
        ({"train": 50, "validation": 5, "test": 0}, 2, "expected labels from 0 to 1, received 2"),
    ],
)
def test_examples_that_cannot_be_learned_from_are_refused(
    splits, classes, complaint, train, write_examples, make_blobs, tmp_path
):
    examples = write_examples(tmp_path / "bad", make_blobs(splits), (4, 5), classes)
    with pytest.raises(TrainingError, match=complaint):
        train(examples)


@pytest.mark.parametrize("changes", [{}, {"memory_budget_mb": 1}], ids=["memory", "disk"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_feature_that_is_not_a_number_is_found(
    changes, split, train, write_examples, make_blobs, tmp_path
):
    splits = make_blobs({"train": 1200, "validation": 5, "test": 5}, (28, 28))
    row = {"train": 500, "test": 1}[split]  # in the first of two files, of train in its second MB
    splits[split][0][row, 7] = np.nan
    bad = write_examples(tmp_path / "bad", splits, (28, 28), 3)
    # Without a normalisation the relu would turn it into 0, and the loss would stay finite.
    complaint = f"expected finite features, received nan in row {row}, feature 7"
    with pytest.raises(TrainingError, match=complaint):
        train(bad, normalization="none", **QUICK, **changes)


def test_early_stopping_needs_validation_examples(train, write_examples, make_blobs, tmp_path):
    splits = make_blobs({"train": 30, "validation": 0, "test": 5})
    examples = write_examples(tmp_path / "none", splits, (4, 5), 3)
    with pytest.raises(TrainingError, match="expected a validation split with examples") as caught:
        train(examples, early_stopping_patience=2)
    assert "--set trainer.early_stopping_patience=0" in caught.value.hint


def test_a_device_that_is_not_there_is_refused(train, blob_examples):
    with pytest.raises(TrainingError, match=r"expected one of cpu:0.*received gpu:7"):
        train(blob_examples, device="gpu:7")


def test_the_processor_by_its_number_has_one_thread_too(train, blob_examples, monkeypatch):
    asked = []
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", asked.append)
    train(blob_examples, device="cpu:0", **QUICK)
    assert asked == [1]


def test_what_only_this_machine_knows_is_not_in_the_key():
    # A version number says where to find a model, the digest among the inputs which one it is.
    local = {"memory_budget_mb", "checkpoint_seconds", "warm_start"}
    fields = {field.name for field in dataclasses.fields(Params)}
    assert set(key_params(Params())) == fields - local
