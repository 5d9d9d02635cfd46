"""The loop against `model.fit`, from memory and from disk, and where it stops."""

import dataclasses
import gzip
import tracemalloc

import keras
import numpy as np
import pytest
import tensorflow as tf

from bnpipe.components.network import checkpoint, examples, loop, network
from bnpipe.components.network.evaluation import evaluate
from bnpipe.components.network.examples import InMemory, OnDisk, epoch_order, open_splits
from bnpipe.components.network.loop import Trainer, program_for
from bnpipe.components.trainer import Params, TrainingError
from bnpipe.data.dataset_info import DatasetInfo

SMALL = Params(hidden_units=(8, 6), batch_size=20, epochs=3)


def silent(done, total, note):
    pass


def blob_split(make_blobs, size, split="train"):
    features, labels = make_blobs({split: size})[split]
    return InMemory(features, labels.astype(np.int32))


def trained(params, train, validation, scratch, progress=silent):
    features, _ = train.rows(np.array([0]))
    model = network.build(features.shape[1], classes_of(train), params)
    trainer = Trainer(
        program_for(model, params, train), params, train, validation, scratch, progress
    )
    trainer.fit()
    return trainer


def classes_of(split):
    return max(3, int(split.labels.max()) + 1)


def weights(model):
    return {variable.path: variable.numpy() for variable in model.variables}


def fitted(params, train, optimizer):
    """The same training by Keras: `fit`, one call per epoch, in the same order."""
    model = network.build(train.features.shape[1], classes_of(train), params)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for epoch in range(params.epochs):
        features, labels = train.rows(epoch_order(params.seed, epoch, train.size))
        model.fit(features, labels, batch_size=params.batch_size, shuffle=False, verbose=0)
    return model


@pytest.fixture(scope="module")
def wide(make_blobs):
    """Rows of MNIST's size: 100 full batches of 32 and a rest of 19, so 303 steps in 3 epochs."""
    features, labels = make_blobs({"train": 3219}, (28, 28), 10)["train"]
    return InMemory(features, labels.astype(np.int32))


@pytest.mark.parametrize(
    "normalization",
    ["batch", *(pytest.param(name, marks=pytest.mark.slow) for name in ("custom_batch", "none"))],
)
def test_300_steps_of_sgd_end_in_the_weights_of_keras_fit(normalization, wide, tmp_path):
    params = Params(normalization=normalization, optimizer="sgd", learning_rate=0.05, epochs=3)
    train = wide
    expected = weights(
        fitted(
            # Keras' own layer is the reference for ours.
            dataclasses.replace(params, normalization=normalization.removeprefix("custom_")),
            train,
            keras.optimizers.SGD(0.05),
        )
    )
    received = weights(trained(params, train, train, tmp_path).model)
    assert received.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(received[path], value, rtol=1e-5, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_300_steps_of_adam_end_in_the_weights_of_keras_fit(dtype, wide, tmp_path):
    params = Params(epochs=3, dtype=dtype)
    expected = weights(fitted(params, wide, keras.optimizers.Adam(1e-3)))
    received = weights(trained(params, wide, wide, tmp_path).model)
    for name in ("hidden_1", "hidden_2") if dtype == "float32" else ():
        # The true gradient of a bias before a normalisation is 0, and Adam blows up its rounding
        # errors. It is part of the moving mean, which follows it with a lag.
        bias, mean = f"{name}/bias", f"{name}_normalization/moving_mean"
        for values in (expected, received):
            values[mean] = values[mean] - values.pop(bias)
        np.testing.assert_allclose(received.pop(mean), expected.pop(mean), rtol=1e-5, atol=1e-4)
    assert len(received) == len(expected) == {"float32": 10, "float64": 14}[dtype]
    for path, value in expected.items():
        np.testing.assert_allclose(received[path], value, rtol=1e-5, atol=1e-5, err_msg=path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_epochs_end_in_the_accuracy_of_keras_fit(mnist_archives, tmp_path):
    """Over 5 seeds; rounding has made other weights of them by then."""

    def read(name, skip, shape):
        content = gzip.decompress((mnist_archives / f"{name}-ubyte.gz").read_bytes())
        return np.frombuffer(content, np.uint8)[skip:].reshape(shape)

    def split(name, rows):
        images = read(f"{name}-images-idx3", 16, (-1, 784))[:rows].astype(np.float32) / 255
        return InMemory(images, read(f"{name}-labels-idx1", 8, -1)[:rows].astype(np.int32))

    train, test = split("train", 6_400), split("t10k", 10_000)
    differences = []
    for seed in range(5):
        (scratch := tmp_path / str(seed)).mkdir()
        params = Params(seed=seed)
        expected = evaluate(fitted(params, train, keras.optimizers.Adam(1e-3)), test)[1]
        received = evaluate(trained(params, train, test, scratch).model, test)[1]
        assert min(expected, received) > 0.92
        differences.append(received - expected)
    assert abs(np.mean(differences)) < 0.003, differences


def test_examples_on_disk_give_the_bits_of_examples_in_memory(blob_examples, tmp_path, monkeypatch):
    info = DatasetInfo.read(blob_examples.path)
    models = []
    for budget, kind, chunk_bytes in ((2**20, InMemory, 2**26), (1, OnDisk, 3 * 20 * 20 * 4)):
        scratch = tmp_path / kind.__name__
        scratch.mkdir()
        monkeypatch.setattr(loop, "CHUNK_BYTES", chunk_bytes)
        train, validation = open_splits(blob_examples, info, budget, scratch)
        assert type(train) is type(validation) is kind
        model = network.build(info.features, info.classes, SMALL)
        trainer = Trainer(
            program_for(model, SMALL, train), SMALL, train, validation, scratch, silent
        )
        trainer.fit()
        models.append((weights(model), trainer.position.history))
        assert trainer.program.chunk_steps == (1000 if kind is InMemory else 3)
    assert models[0][1] == models[1][1]
    for path, value in models[0][0].items():
        np.testing.assert_array_equal(value, models[1][0][path], err_msg=path)


def test_examples_on_disk_take_the_same_memory_whatever_their_number(
    write_examples, make_blobs, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "CHUNK_BYTES", 2**20)
    monkeypatch.setattr(examples, "BLOCK_ROWS", 256)
    params = Params(
        hidden_units=(4,), normalization="none", optimizer="sgd", epochs=1, batch_size=100
    )
    # Tracing holds no examples, and takes very long when every object is counted.
    monkeypatch.setattr(tf, "function", lambda function, **options: function)

    def peak(rows):
        splits = make_blobs({"train": rows, "validation": 100}, (28, 28), 10)
        folder = tmp_path / str(rows)
        artifact = write_examples(folder, splits, (28, 28), 10)
        del splits
        info = DatasetInfo.read(folder)
        tracemalloc.start()  # NumPy tells it of its arrays
        train, validation = open_splits(artifact, info, 2**20, folder)
        assert isinstance(train, OnDisk)
        trained(params, train, validation, folder)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(500)  # what is made only once
    small, large = peak(2_000), peak(8_000)
    features = 4 * 784 * (8_000 - 2_000)
    assert large - small < features / 10


def test_a_checkpoint_in_mid_epoch_leads_to_the_same_bits(make_blobs, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHUNK_STEPS", 4)
    params = dataclasses.replace(
        SMALL, hidden_units=(8,), dropout=0.2, schedule="cosine", checkpoint_seconds=0
    )
    train = blob_split(make_blobs, 203)
    expected = trained(params, train, train, tmp_path)

    class Killed(Exception):
        pass

    def die(done, total, note):
        if done == 22 + 8:
            raise Killed

    (tmp_path / "killed").mkdir()
    with pytest.raises(Killed):
        trained(params, train, train, tmp_path / "killed", die)
    resumed = trained(params, train, train, tmp_path / "killed")
    # An epoch is 4 + 4 + 2 steps and a rest. It died just before the checkpoint of the second 4.
    assert resumed.resumed_from == 22 + 4
    assert resumed.position == expected.position
    for value, again in zip(expected.model.variables, resumed.model.variables, strict=True):
        np.testing.assert_array_equal(value.numpy(), again.numpy(), err_msg=value.path)


def test_a_checkpoint_that_is_cut_short_or_of_another_network_is_not_used(make_blobs, tmp_path):
    params = dataclasses.replace(SMALL, epochs=1, checkpoint_seconds=0)
    train = blob_split(make_blobs, 15)
    seldom = dataclasses.replace(params, checkpoint_seconds=1000)
    trained(seldom, train, train, tmp_path)
    assert list(tmp_path.iterdir()) == []
    trained(params, train, train, tmp_path)
    other = dataclasses.replace(params, hidden_units=(5,))
    assert trained(other, train, train, tmp_path).resumed_from == 0
    file = tmp_path / checkpoint.FILE_NAME
    whole = file.read_bytes()
    for damaged in (whole[:-100], b""):
        file.write_bytes(damaged)
        assert trained(params, train, train, tmp_path).resumed_from == 0


def test_history_progress_and_schedule(make_blobs, tmp_path):
    seen = []
    # One step an epoch, and no XLA program.
    params = dataclasses.replace(SMALL, schedule="cosine", batch_size=60)
    train, validation = blob_split(make_blobs, 45), blob_split(make_blobs, 30, "validation")
    trainer = trained(params, train, validation, tmp_path, lambda *line: seen.append(line))
    model = trainer.model
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    loss, accuracy = model.evaluate(validation.features, validation.labels, verbose=0)
    last = trainer.position.history[-1]
    assert last["validation_loss"] == pytest.approx(loss, rel=1e-5)
    assert last["validation_accuracy"] == pytest.approx(accuracy)
    assert [row["epoch"] for row in trainer.position.history] == [1, 2, 3]
    assert last["train_loss"] < trainer.position.history[0]["train_loss"]

    assert float(trainer.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-9)

    assert seen[-1][:2] == (3, 3)
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert "epoch 3/3" in seen[-1][2]


def test_early_stopping_ends_with_the_best_weights(make_blobs, tmp_path):
    params = dataclasses.replace(
        SMALL, epochs=40, learning_rate=0.1, early_stopping_patience=2, checkpoint_seconds=0
    )
    train, validation = blob_split(make_blobs, 15), blob_split(make_blobs, 30, "validation")
    trainer = trained(params, train, validation, tmp_path)
    losses = [row["validation_loss"] for row in trainer.position.history]
    assert trainer.position.stopped
    assert trainer.position.best_epoch == np.argmin(losses) + 1 == len(losses) - 2
    assert evaluate(trainer.model, validation)[0] == pytest.approx(min(losses))
    again = trained(params, train, validation, tmp_path)  # from the checkpoint: nothing to do
    assert again.steps_run == 0
    assert evaluate(again.model, validation)[0] == pytest.approx(min(losses))


def test_weights_that_the_last_step_has_spoilt_are_refused(make_blobs, tmp_path):
    train, none = blob_split(make_blobs, 20), blob_split(make_blobs, 0, "validation")
    params = dataclasses.replace(
        SMALL, epochs=1, normalization="none", optimizer="sgd", learning_rate=3e38
    )
    train = InMemory(train.features * 100, train.labels)
    with pytest.raises(TrainingError, match="values that are not finite after the last") as caught:
        trained(params, train, none, tmp_path)
    assert "--set trainer.learning_rate=3e+37" in caught.value.hint


def test_the_loss_of_a_network_in_half_precision_has_all_its_digits(make_blobs, tmp_path):
    """The first loss, against the same logits in float64."""
    train = blob_split(make_blobs, 60)
    params = dataclasses.replace(SMALL, epochs=1, batch_size=61, dtype="mixed_bfloat16")
    model = network.build(train.features.shape[1], 3, params)
    logits = model(train.features, training=True).numpy().astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(chances[np.arange(60), train.labels]).mean()
    history = trained(params, train, train, tmp_path).position.history
    assert history[0]["train_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_loss_that_is_not_finite_is_named_with_its_step(make_blobs, tmp_path):
    train = blob_split(make_blobs, 203)
    params = dataclasses.replace(SMALL, optimizer="sgd", learning_rate=1e30, normalization="none")
    with pytest.raises(TrainingError, match="epoch 1, step 2 of 11") as caught:
        trained(params, train, train, tmp_path)
    assert "--set trainer.learning_rate=1e+29" in caught.value.hint


def test_a_feature_that_is_not_a_number_stops_training(make_blobs, tmp_path):
    train = blob_split(make_blobs, 45)
    train.features[epoch_order(0, 0, 45)[41], 3] = np.nan  # in the third batch
    with pytest.raises(TrainingError, match="the loss became nan in epoch 1, step 3 of 3"):
        trained(SMALL, train, train, tmp_path)


@pytest.mark.parametrize(
    ("size", "batch_size"),
    [(1, 32), (5, 32), (5, 1), pytest.param(64, 32, marks=pytest.mark.slow)],
)
def test_any_number_of_examples_can_be_trained_on(size, batch_size, make_blobs, tmp_path):
    params = dataclasses.replace(SMALL, epochs=2, batch_size=batch_size)
    train, validation = blob_split(make_blobs, size), blob_split(make_blobs, 0, "validation")
    trainer = trained(params, train, validation, tmp_path)
    assert trainer.steps_run == 2 * -(-size // batch_size)
    assert trainer.position.history[-1]["validation_loss"] is None
    assert all(np.isfinite(value).all() for value in weights(trainer.model).values())
