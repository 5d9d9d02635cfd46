"""What `bench_trainer.py` compares: one training each, and the matrix products of a step alone."""

import gzip
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, BATCH, SHAPE, CLASSES = 55_000, 32, (28, 28), 10


def mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, 784] in [0, 1] and int64[N]; split is `train` or `t10k`."""
    folder = Path(os.environ["BNPIPE_ARCHIVES"])

    def read(name: str, skip: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)[skip:]

    pixels = read(f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, SHAPE[0] * SHAPE[1])
    labels = read(f"{split}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return pixels.astype(np.float32) / np.float32(255), labels


def article_network(seed: int, last: str | None) -> Any:
    """The article's network. Only the weights are seeded.

    Under a global seed (`keras.utils.set_random_seed`) Keras 3.15 on TensorFlow draws the same
    order in every epoch, which costs 0.4 points of test accuracy.
    """
    import keras

    weights = [keras.initializers.GlorotUniform(seed=3 * seed + layer) for layer in range(3)]
    return keras.Sequential(
        [
            keras.Input((SHAPE[0] * SHAPE[1],)),
            keras.layers.Dense(64, kernel_initializer=weights[0]),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dense(64, kernel_initializer=weights[1]),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dense(CLASSES, last, kernel_initializer=weights[2]),
        ]
    )


def accuracy_on_test(model: Any) -> float:
    """The share of the 10,000 test images that a Keras model gets right."""
    images, expected = mnist("t10k")
    return float(np.mean(model.predict(images, batch_size=1000, verbose=0).argmax(1) == expected))


def train_with_fit(seed: int, epochs: int, options: dict[str, Any]) -> dict[str, float]:
    """The article's network and call."""
    import keras  # noqa: F401  before the clock starts

    features, labels = (array[:TRAIN] for array in mnist("train"))
    started, processor = time.perf_counter(), time.process_time()
    model = article_network(seed, "softmax")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    first = time.perf_counter()
    model.fit(features, labels, epochs=1, batch_size=BATCH, verbose=0)
    second = time.perf_counter()
    model.fit(features, labels, epochs=epochs - 1, batch_size=BATCH, verbose=0)
    ended, processor = time.perf_counter(), time.process_time() - processor
    steady = (ended - second) / (epochs - 1)
    return {
        "seconds": ended - started,
        "processor_seconds": processor,
        "compile_seconds": second - first - steady,
        "us_per_step": steady / -(-TRAIN // BATCH) * 1e6,
        "accuracy": accuracy_on_test(model),
    }


def train_with_pilot(seed: int, epochs: int) -> dict[str, float]:
    """What showed that it can be done: an epoch is one XLA program, and there is nothing else.

    It drops the last 24 examples of an epoch, and counts neither hits nor losses by step.
    """
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    features, labels = (array[:TRAIN] for array in mnist("train"))
    started, processor = time.perf_counter(), time.process_time()
    model, optimizer, steps = article_network(seed, None), keras.optimizers.Adam(), TRAIN // BATCH
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=True)
    def run_epoch(features: Any, labels: Any, order: Any) -> Any:
        total = 0.0
        for step in tf.range(steps):
            rows = tf.slice(order, [step * BATCH], [BATCH])
            with tf.GradientTape() as tape:
                logits = model(tf.gather(features, rows), training=True)
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, rows), logits)
                )
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
            total += loss
        return total / steps

    data = tf.constant(features), tf.constant(labels)
    ends = [time.perf_counter()]
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(TRAIN)
        float(run_epoch(*data, tf.constant(order, tf.int32)))
        ends.append(time.perf_counter())
    processor = time.process_time() - processor
    first, *others = (after - before for before, after in itertools.pairwise(ends))
    return {
        "seconds": ends[-1] - started,
        "processor_seconds": processor,
        "compile_seconds": first - statistics.mean(others),
        "us_per_step": statistics.mean(others) / steps * 1e6,
        "accuracy": accuracy_on_test(model),
    }


def train_with_ours(seed: int, epochs: int, validated: int) -> dict[str, float]:
    """The same with this project's trainer; `validated` images are evaluated after every epoch.

    Like that of the others, its time by step is what whole epochs take.
    """
    import tensorflow as tf

    from bnpipe.components.network import network
    from bnpipe.components.network.evaluation import evaluate
    from bnpipe.components.network.examples import InMemory
    from bnpipe.components.network.loop import Trainer, program_for
    from bnpipe.components.trainer import Params

    tf.config.threading.set_intra_op_parallelism_threads(1)
    features, labels = mnist("train")
    labels = labels.astype(np.int32)
    train = InMemory(features[:TRAIN], labels[:TRAIN])
    validation = InMemory(features[TRAIN:][:validated], labels[TRAIN:][:validated])
    started, processor = time.perf_counter(), time.process_time()
    params = Params(seed=seed, epochs=epochs, batch_size=BATCH)
    model = network.build(features.shape[1], CLASSES, params)
    steps, ends = -(-TRAIN // BATCH), dict[int, float]()

    def progress(done: int, total: int, note: str) -> None:
        if done % steps == 0:
            ends[done // steps] = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(
            program_for(model, params, train), params, train, validation, Path(scratch), progress
        )
        trainer.fit()
    ended, processor = time.perf_counter(), time.process_time() - processor
    images, expected = mnist("t10k")
    return {
        "seconds": ended - started,
        "processor_seconds": processor,
        "compile_seconds": trainer.compile_seconds,
        "us_per_step": (ends[epochs] - ends[1]) / (epochs - 1) / steps * 1e6,
        "accuracy": evaluate(model, InMemory(images, expected.astype(np.int32)))[1] or 0.0,
    }


def matrix_products() -> dict[str, float]:
    """Microseconds that the eight matrix products of a step take in BLAS, on one thread."""
    generator = np.random.default_rng(0)

    def matrix(*shape: int) -> np.ndarray:
        return generator.random(shape, np.float32)

    units = [SHAPE[0] * SHAPE[1], 64, 64, CLASSES]
    inputs = [matrix(BATCH, size) for size in units[:-1]]
    kernels = [matrix(*pair) for pair in itertools.pairwise(units)]
    errors = [matrix(BATCH, size) for size in units[1:]]
    pairs = list(zip(inputs, kernels, strict=True))  # forward
    pairs += [(x.T, error) for x, error in zip(inputs, errors, strict=True)]  # for the kernels
    pairs += [(e, k.T) for e, k in zip(errors[1:], kernels[1:], strict=True)]  # for the inputs
    products = [(a, b, a @ b) for a, b in pairs]
    assert len(products) == 8
    times = []
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(500):
            for a, b, out in products:
                np.matmul(a, b, out=out)
        times.append((time.perf_counter() - started) / 500)
    return {"us_per_step": min(times) * 1e6}
