"""The work of cross_validation: folds, quick networks, and their answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.artifacts import SPLITS
from bnpipe.components.base import Context, Facts
from bnpipe.components.cross_validation.step import Inputs, Outputs, Params
from bnpipe.components.network import network
from bnpipe.components.network.examples import Floats, InMemory, epoch_order
from bnpipe.components.network.loop import program_for
from bnpipe.components.network.params import Params as NetworkParams
from bnpipe.components.network.params import TrainingError
from bnpipe.components.network.program import Program, resident
from bnpipe.components.network.rows import Bytes, Rows
from bnpipe.data.dataset_info import DatasetInfo

FOLDS = 3
LEAST_STEPS, LEAST_EPOCHS = 300, 3
MOST_TRAINED = 60_000  # images that the networks learn from, evenly taken from what there is
LARGE_SIDE = 16  # pixels; larger images are halved
BATCH_SIZE = 256

LEAST_IMAGES = 10
"""Images to train on per class, below which no network is worth asking."""

DEVICE = "/cpu:0"
EXPECTED = MOST_TRAINED, 14 * 14, 10
"""Images, their values and their classes: of MNIST, and of most sets of its kind."""

_ready: dict[tuple[int, int, int, int], Program] = {}
"""What this process has compiled ahead, by what was expected and the seed; each is used once."""

_QUICK = NetworkParams(hidden_units=(128, 64), momentum=0.9, learning_rate=5e-3, schedule="cosine")


def cross_validate(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    info = DatasetInfo.read(inputs.examples.path)
    ctx.progress(0, FOLDS, "reading images")
    ctx.scratch.mkdir(parents=True, exist_ok=True)
    rows = Rows.read(inputs.examples, info, ctx.scratch / "pixels.uint8")
    learned = int((rows.splits < SPLITS.index("test")).sum())
    answers = np.zeros((0, info.classes), np.float32)
    if learned >= LEAST_IMAGES * info.classes:
        answers = by_folds(rows, params.seed, ctx.progress)
    np.save(outputs.answers.path / "probabilities.npy", answers)
    ctx.progress(FOLDS, FOLDS, "")
    facts: dict[str, float | int] = {"images": len(answers)}
    if len(answers):
        facts["accuracy"] = float(np.mean(answers.argmax(axis=1) == rows.labels))
    return facts


def by_folds(rows: Rows, seed: int, progress: Callable[[int, int, str], None]) -> Floats:
    """Probabilities of quick networks, float32[N, K].

    Images to train on are dealt out to folds; one network per fold learns from the others. An
    image of the test split is answered by all of them, and has the mean.

    Raises:
        TrainingError: an answer is not a finite number.
    """
    learned = rows.splits < SPLITS.index("test")
    place = np.cumsum(learned) - 1
    stride = -(-int(learned.sum()) // MOST_TRAINED)
    folds = np.where(learned, place // stride % FOLDS, -1)
    sample = np.flatnonzero(learned & (place % stride == 0))
    train = InMemory(_sampled(rows, sample), rows.labels[sample].astype(np.int32))
    with tf.device(DEVICE):
        model, weights = _networks(train, folds[sample], rows.info.classes, seed, progress)
        answers = np.zeros((len(rows.labels), rows.info.classes), np.float32)
        for block, pixels in rows.blocks():
            images, fold = small(pixels, rows.info), folds[block]
            for number, values in enumerate(weights):
                for variable, value in zip(model.variables, values, strict=True):
                    variable.assign(value)
                mine = (fold == number) | (fold < 0)
                if mine.any():
                    logits = model(tf.constant(images[mine]), training=False)
                    share = np.where(fold[mine] < 0, np.float32(1 / FOLDS), np.float32(1))
                    answers[block][mine] += tf.nn.softmax(logits).numpy() * share[:, None]
    if not np.isfinite(answers).all():
        raise TrainingError(
            "a quick network that labels are held against gave answers that are not finite",
            hint="to go on without: --set label_validator.checks.own_labels=off "
            "--set label_validator.checks.part_labels=off",
        )
    return answers


def small(pixels: Bytes, info: DatasetInfo) -> Floats:
    """Images as the quick networks see them: large ones at half their size, float32[n, d]."""
    if min(info.height, info.width) < LARGE_SIDE:
        return pixels * np.float32(1 / 255)
    height, width = info.height // 2, info.width // 2
    images = pixels.reshape(-1, info.height, info.width)[:, : 2 * height, : 2 * width]
    twos = images[:, ::2].astype(np.uint16) + images[:, 1::2]
    fours = twos[:, :, ::2] + twos[:, :, 1::2]
    return fours.reshape(len(images), height * width) * np.float32(1 / (4 * 255))


def _sampled(rows: Rows, sample: npt.NDArray[np.int64]) -> Floats:
    """Some images as the networks see them, float32[n, d]; never twice in memory."""
    width = small(np.zeros((1, rows.info.features), np.uint8), rows.info).shape[1]
    images = np.empty((len(sample), width), np.float32)
    for block, pixels in rows.blocks():
        first, last = np.searchsorted(sample, (block.start, block.stop))
        images[first:last] = small(pixels[sample[first:last] - block.start], rows.info)
    return images


def _networks(
    train: InMemory,
    folds: npt.NDArray[np.int64],
    classes: int,
    seed: int,
    progress: Callable[[int, int, str], None],
) -> tuple[keras.Model, list[list[npt.NDArray[np.generic]]]]:
    """The weights of one network per fold, and a model that takes them."""
    params, program = _program(train, classes, seed)
    model, batch = program.model, params.batch_size
    examples = resident(train.held, train.labels)
    # Images of an epoch that fill no batch are left out.
    steps = params.epochs * (train.size // batch)
    weights = []
    for fold in range(FOLDS):
        network.restart(model, dataclasses.replace(params, seed=seed + fold))
        program.restart()
        others = np.flatnonzero(folds != fold)
        again = range(-(-steps * batch // len(others)))
        order = np.concatenate([others[epoch_order(seed + fold, e, len(others))] for e in again])
        batches = order[: steps * batch].reshape(steps, batch)
        progress(fold, FOLDS, f"network {fold + 1} of {FOLDS}")
        for start in range(0, steps, program.chunk_steps):
            program.advance(*examples, batches[start : start + program.chunk_steps])
        weights.append([variable.numpy() for variable in model.variables])
    return model, weights


def _program(train: InMemory, classes: int, seed: int) -> tuple[NetworkParams, Program]:
    """How the networks are trained, and by what: compiled ahead, or not yet."""
    batch = max(2, min(BATCH_SIZE, train.size // 16))
    epochs = max(LEAST_EPOCHS, -(-LEAST_STEPS * batch // train.size))
    params = dataclasses.replace(_QUICK, batch_size=batch, epochs=epochs, seed=seed)
    width = train.features.shape[1]
    ready = _ready.pop((train.size, width, classes, seed), None)
    return params, ready or program_for(network.build(width, classes, params), params, train)


def compile_ahead(params: Params) -> None:
    """Compiles what trains the networks on images that are as many, and as large, as expected."""
    size, width, classes = expected = EXPECTED
    labels = np.zeros(size, np.int32)
    train = InMemory(np.empty((size, width), np.float32), labels)
    with tf.device(DEVICE):
        _, program = _program(train, classes, params.seed)
        program.compile(*resident(train.held, labels))
    _ready[*expected, params.seed] = program
