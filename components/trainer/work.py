"""The trainer's work, in order: read, train, export, verify, and write the Model artifact."""

from __future__ import annotations

import dataclasses
import os
import time

import keras
import numpy as np
import tensorflow as tf

from bnpipe.components.artifacts import Model
from bnpipe.components.base import Context, Facts
from bnpipe.components.network import network
from bnpipe.components.network.calibration import Fit, fit_temperature
from bnpipe.components.network.evaluation import evaluate
from bnpipe.components.network.examples import (
    LEAST_HELD,
    InMemory,
    Split,
    allocate,
    feature_blocks,
    open_splits,
)
from bnpipe.components.network.loop import Trainer, program_for
from bnpipe.components.network.params import Dtype, Params, TrainingError
from bnpipe.components.network.precise_statistics import estimate_statistics
from bnpipe.components.network.program import Program, resident
from bnpipe.components.trainer.export import export_verified
from bnpipe.components.trainer.model_card import model_card, write_json
from bnpipe.components.trainer.step import Inputs
from bnpipe.components.trainer.warm_start import take_weights
from bnpipe.data.dataset_info import DatasetInfo

SERVED_DTYPE: Dtype = "float32"
EXACT_DTYPE: Dtype = "float64"
# Features only: nothing is chosen by the test split, the export is proved on it.
VERIFIED_SPLITS = ("validation", "test")

EXPECTED = 784, 10
"""Features and classes of MNIST and of most sets of its kind."""

_ready: dict[Params, Program] = {}
"""What this process has compiled ahead; each is used once, since training changes it."""


def train_and_export(inputs: Inputs, model: Model, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    examples = inputs.examples
    info = DatasetInfo.read(examples.path)
    train, validation = open_splits(examples, info, params.memory_budget_mb * 2**20, ctx.scratch)
    _check_early_stopping(params, validation)
    started = time.perf_counter()
    with _device(params.device):
        program = _program(info, params, train)
        net = program.model
        if inputs.start is not None:
            take_weights(net, inputs.start)
        trainer = _train(program, train, validation, params, ctx)
        loss, accuracy = evaluate(trainer.model, validation)
    train_seconds = time.perf_counter() - started
    served = net if params.dtype == SERVED_DTYPE else _in(SERVED_DTYPE, net, info, params)
    exact = _in(EXACT_DTYPE, served, info, params)
    blocks = feature_blocks(examples, VERIFIED_SPLITS, info)
    fit = _temperature(served, validation)
    temperature, temperature_error = fit or (None, None)
    divisor = (temperature if params.calibrated else None) or 1.0
    exported = export_verified(
        served, exact, model.saved_model, info, blocks, params.fold_batch_norm, divisor
    )
    if exported.left:
        ctx.log.info("exported without folding: %s", ", ".join(exported.left))
    position = trainer.position
    # Early stopping returns to the best epoch, else the last one counts.
    final = position.history[position.best_epoch - 1]
    metrics = {
        "train_loss": final["train_loss"],
        "train_accuracy": final["train_accuracy"],
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "temperature": temperature,
        "temperature_error": temperature_error,
        "export_tolerance": exported.facts["export_tolerance"],
    }
    net.save_weights(model.path / "training.weights.h5")
    history = {
        "epochs": position.history,
        "best_epoch": position.best_epoch or None,
        "stopped_early": position.stopped,
    }
    write_json(model.path / "history.json", history)
    card = model_card(info, ctx.input_digests, params, net, metrics, exported.folded)
    write_json(model.path / "model_card.json", card)
    return {
        "train_seconds": train_seconds,
        "compile_seconds": trainer.compile_seconds,
        "steps_per_second": trainer.steps_run / trainer.loop_seconds if trainer.steps_run else None,
        "epochs": position.epoch,
        "steps": trainer.steps_run,
        "steps_from_checkpoint": trainer.resumed_from,
        **metrics,
        **exported.facts,
    }


def _check_early_stopping(params: Params, validation: Split) -> None:
    if params.early_stopping_patience and not validation.size:
        raise TrainingError(
            "trainer.early_stopping_patience: expected a validation split with examples, since it "
            "goes by their loss; received none",
            hint="train all epochs with: --set trainer.early_stopping_patience=0",
        )


def _program(info: DatasetInfo, params: Params, train: Split) -> Program:
    """The untrained network, and what trains it: compiled ahead, or not yet."""
    ready = _ready.pop(params, None)
    if ready and isinstance(train, InMemory) and (info.features, info.classes) == EXPECTED:
        return ready
    return program_for(network.build(info.features, info.classes, params), params, train)


def compile_ahead(params: Params) -> None:
    """Compiles what trains the network on examples that are as expected; nothing is trained.

    A program hangs on no more of them than their shape, unless the rate's course has to end with
    the last epoch, they lie on disk, or they are fewer than a batch.
    """
    features, classes = EXPECTED
    held, none = allocate(0, features, params.memory_budget_mb * 2**20), np.zeros(0, np.int32)
    in_memory = len(held) == LEAST_HELD
    if params.schedule != "constant" or params.batch_size > LEAST_HELD or not in_memory:
        return
    with _device(params.device):
        expected = InMemory(held[:0], none, held)
        program = program_for(network.build(features, classes, params), params, expected)
        program.compile(*resident(expected.held, none))
        program.compile_step()
    _ready[params] = program


def _train(
    program: Program, train: Split, validation: Split, params: Params, ctx: Context
) -> Trainer:
    trainer = Trainer(program, params, train, validation, ctx.scratch, ctx.progress)
    trainer.fit()
    if trainer.resumed_from:
        ctx.log.info("went on from a checkpoint after %d steps", trainer.resumed_from)
    for row in trainer.position.history:
        ctx.log.info("%s", row)
    if params.precise_statistics:
        estimate_statistics(program.model, train)
    return trainer


def _temperature(net: keras.Model, split: Split) -> Fit | None:
    """The temperature of a network by a split; None with too few examples."""
    blocks = [(net(features, training=False), labels) for features, labels in split.blocks()]
    if not blocks:
        return None
    logits, labels = zip(*blocks, strict=True)
    return fit_temperature(np.concatenate(logits), np.concatenate(labels))


def _in(dtype: Dtype, net: keras.Model, info: DatasetInfo, params: Params) -> keras.Model:
    """The network with the same weights in another precision."""
    other = network.build(info.features, info.classes, dataclasses.replace(params, dtype=dtype))
    for variable, trained in zip(other.variables, net.variables, strict=True):
        variable.assign(keras.ops.cast(trained, variable.dtype))
    return other


def _device(name: str) -> tf.device:
    """The scope of a device.

    Raises:
        TrainingError: there is no such device.
    """
    kind, _, index = name.partition(":")
    if kind.lower() == "cpu":
        _use_one_thread()
    devices = [device.name.rpartition("device:")[2] for device in tf.config.list_logical_devices()]
    if f"{kind.upper()}:{index or 0}" not in devices:
        raise TrainingError(
            f"trainer.device: expected one of {', '.join(d.lower() for d in devices)}, "
            f"received {name}",
            hint="train on the processor with: --set trainer.device=cpu",
        )
    return tf.device(f"/{kind}:{index or 0}")


def _use_one_thread() -> None:
    """One thread per operation is fastest for small batches, and gives large ones fixed bits.

    Raises:
        TrainingError: TensorFlow has already started with more.
    """
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    except RuntimeError:
        # It has started, and took this variable then. `bnpipe run` sets it before that.
        if os.environ.get("TF_NUM_INTRAOP_THREADS") != "1":
            raise TrainingError(
                "TensorFlow has already started with several threads per operation: expected one, "
                "since the bits of the weights depend on it",
                hint="start Python again with TF_NUM_INTRAOP_THREADS=1 in the environment",
            ) from None
