"""Training time and accuracy: Keras `fit` as the source article calls it, `fit` at its best, ours.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_trainer.py [--seeds 5] [--epochs 10]

Every training runs in a process of its own, because the number of threads is fixed per process;
the contenders take turns seed by seed, so that they share whatever else the machine is doing.
Times leave out the import of TensorFlow and reading the data, and include all compiling.
"""

import argparse
import gzip
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, BATCH, SHAPE, CLASSES = 55_000, 32, (28, 28), 10
ARTICLE = "fit, as the article calls it"
OURS = "this trainer"
RATIOS = (
    ("seconds", "in all"),
    ("us_per_step", "steady state"),
    ("processor_seconds", "processor time in all"),  # what a busy machine spoils least
)
FIT_OPTIONS: dict[str, dict[str, Any]] = {
    ARTICLE: {},
    "fit, 100 steps per execution": {"steps_per_execution": 100},
    "fit, 100 steps per execution, XLA": {"steps_per_execution": 100, "jit_compile": True},
    "fit, 1718 steps per execution, XLA": {"steps_per_execution": 1718, "jit_compile": True},
}


def mnist(split: str) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, 784] in [0, 1] and int64[N]; split is `train` or `t10k`."""
    folder = Path(os.environ["BNPIPE_ARCHIVES"])

    def read(name: str, skip: int) -> np.ndarray:
        return np.frombuffer(gzip.decompress((folder / name).read_bytes()), np.uint8)[skip:]

    pixels = read(f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, SHAPE[0] * SHAPE[1])
    labels = read(f"{split}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    return pixels.astype(np.float32) / np.float32(255), labels


def train_with_fit(seed: int, epochs: int, options: dict[str, Any]) -> dict[str, float]:
    """The article's network and call.

    Only the weights are seeded. Under a global seed (`keras.utils.set_random_seed`) Keras 3.15 on
    TensorFlow draws the same order in every epoch, which costs 0.4 points of test accuracy.
    """
    import keras

    features, labels = (array[:TRAIN] for array in mnist("train"))
    started, processor = time.perf_counter(), time.process_time()
    weights = [keras.initializers.GlorotUniform(seed=3 * seed + layer) for layer in range(3)]
    model = keras.Sequential(
        [
            keras.Input((features.shape[1],)),
            keras.layers.Dense(64, kernel_initializer=weights[0]),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dense(64, kernel_initializer=weights[1]),
            keras.layers.BatchNormalization(),
            keras.layers.Activation("relu"),
            keras.layers.Dense(CLASSES, "softmax", kernel_initializer=weights[2]),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    first = time.perf_counter()
    model.fit(features, labels, epochs=1, batch_size=BATCH, verbose=0)
    second = time.perf_counter()
    model.fit(features, labels, epochs=epochs - 1, batch_size=BATCH, verbose=0)
    ended, processor = time.perf_counter(), time.process_time() - processor
    images, expected = mnist("t10k")
    answers = model.predict(images, batch_size=1000, verbose=0).argmax(1)
    steady = (ended - second) / (epochs - 1)
    return {
        "seconds": ended - started,
        "processor_seconds": processor,
        "compile_seconds": second - first - steady,
        "us_per_step": steady / -(-TRAIN // BATCH) * 1e6,
        "accuracy": float(np.mean(answers == expected)),
    }


def train_with_ours(seed: int, epochs: int) -> dict[str, float]:
    """The same with this project's trainer; it evaluates 5,000 images after every epoch too."""
    import tensorflow as tf

    from components.trainer import Params, network
    from components.trainer.examples import InMemory
    from components.trainer.loop import Trainer, evaluate

    tf.config.threading.set_intra_op_parallelism_threads(1)
    features, labels = mnist("train")
    train = InMemory(features[:TRAIN], labels[:TRAIN].astype(np.int32))
    validation = InMemory(features[TRAIN:], labels[TRAIN:].astype(np.int32))
    started, processor = time.perf_counter(), time.process_time()
    params = Params(seed=seed, epochs=epochs, batch_size=BATCH)
    model = network.build(features.shape[1], CLASSES, params)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = Trainer(model, params, train, validation, Path(scratch), lambda *_: None)
        trainer.fit()
    ended, processor = time.perf_counter(), time.process_time() - processor
    images, expected = mnist("t10k")
    return {
        "seconds": ended - started,
        "processor_seconds": processor,
        "compile_seconds": trainer.compile_seconds,
        "us_per_step": trainer.loop_seconds / trainer.steps_run * 1e6,
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


def latencies() -> dict[str, float]:
    """Median microseconds of a call of the exported network, by number of examples."""
    import tensorflow as tf

    from components.trainer import Params, network
    from components.trainer.export import layers_of
    from data.dataset_info import DatasetInfo
    from serving.folding import fold
    from serving.signatures import Classifier

    info = DatasetInfo("mnist", "3.0.1", *SHAPE, tuple("0123456789"), {}, False)
    batch = layers_of(network.build(info.features, CLASSES, Params()))
    none = layers_of(network.build(info.features, CLASSES, Params(normalization="none")))
    found: dict[str, list[float]] = {}
    calls = {
        (name, size): (
            Classifier(layers, info).signature("probabilities_only"),
            tf.zeros([size, info.features]),
        )
        for name, layers in (
            ("folded", fold(batch).layers),
            ("unfolded", batch),
            ("no normalisation", none),
        )
        for size in (1, 32, 256)
    }
    for _ in range(500):  # taking turns, so that all see the same noise
        for (name, size), (call, features) in calls.items():
            started = time.perf_counter()
            call(features=features)["probabilities"].numpy()
            found.setdefault(f"{name}, batch {size}", []).append(time.perf_counter() - started)
    return {name: statistics.median(times) * 1e6 for name, times in found.items()}


def in_a_process(what: str, seed: int, epochs: int) -> dict[str, float]:
    """Runs one measurement in a process of its own."""
    command = [sys.executable, __file__, "--only", what]
    command += ["--seed", str(seed), "--epochs", str(epochs)]
    blas = {"OPENBLAS_NUM_THREADS": "1"} if what == "products" else {}
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | blas
    result = subprocess.run(command, capture_output=True, env=environment)
    if result.returncode:
        sys.exit(result.stderr.decode())
    answer: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return answer


def measure(what: str, seed: int, epochs: int) -> dict[str, float]:
    """One measurement, in this process."""
    if what == "products":
        return matrix_products()
    if what == "latencies":
        return latencies()
    if what == OURS:
        return train_with_ours(seed, epochs)
    return train_with_fit(seed, epochs, FIT_OPTIONS[what])


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def say_results(rows: dict[str, list[dict[str, float]]]) -> None:
    """The table: medians over the seeds, ratios of runs that stood side by side."""
    say(f"\n{'':36}{'seconds':>9}{'compile':>9}{'us/step':>9}   test accuracy")
    for name, runs in rows.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        accuracies = [100 * run["accuracy"] for run in runs]
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        say(
            f"{name:36}{middle['seconds']:9.2f}{middle['compile_seconds']:9.2f}"
            f"{middle['us_per_step']:9.1f}   {statistics.mean(accuracies):.2f} % "
            f"(sd {spread:.2f}, n {len(runs)})"
        )
    for name in (n for n in rows if n != OURS):
        pairs = list(zip(rows[name], rows[OURS], strict=False))
        for key, what in RATIOS:
            ratios = [theirs[key] / ours[key] for theirs, ours in pairs]
            say(
                f"{name} / {OURS}, {what}: {statistics.median(ratios):.1f}x "
                f"({min(ratios):.1f} to {max(ratios):.1f})"
            )
    if len(rows[OURS]) > 1:
        differences = [
            100 * (ours["accuracy"] - theirs["accuracy"])
            for theirs, ours in zip(rows[ARTICLE], rows[OURS], strict=True)
        ]
        error = statistics.stdev(differences) / len(differences) ** 0.5
        say(
            f"test accuracy, ours - article's: {statistics.mean(differences):+.3f} points, "
            f"standard error {error:.3f}"
        )


def main() -> None:
    """Runs everything and prints the report, or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if "BNPIPE_ARCHIVES" not in os.environ:
        sys.exit("BNPIPE_ARCHIVES is not set: it names the folder with MNIST's four archives")
    if arguments.only:
        say(json.dumps(measure(arguments.only, arguments.seed, arguments.epochs)))
        return

    say(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}")
    floor = in_a_process("products", 0, 0)["us_per_step"]
    rows: dict[str, list[dict[str, float]]] = {}
    contenders = [*FIT_OPTIONS, OURS]
    for seed in range(arguments.seeds):
        for name in contenders:
            run = in_a_process(name, seed, arguments.epochs)
            rows.setdefault(name, []).append(run)
            load = os.getloadavg()[0]
            say(f"seed {seed}, load {load:.1f}: {name}: {json.dumps(run)}")
        if seed == 0:  # of the other ways to call fit only the fastest goes on
            others = [name for name in FIT_OPTIONS if name != ARTICLE]
            best = min(others, key=lambda name: rows[name][0]["seconds"])
            contenders = [ARTICLE, best, OURS]
    floor = min(floor, in_a_process("products", 0, 0)["us_per_step"])
    say_results(rows)
    ours = statistics.median(run["us_per_step"] for run in rows[OURS])
    say(f"matrix products of a step in BLAS: {floor:.1f} us; ours / that: {ours / floor:.2f}")
    for name, microseconds in in_a_process("latencies", 0, 0).items():
        say(f"latency, {name}: {microseconds:.0f} us")
    say(f"load average at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
