"""Equal inputs give equal bytes: in other processes, with other threads, and after kill -9."""

import dataclasses
import hashlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bnpipe.components.artifacts import Model
from bnpipe.components.network import loop
from bnpipe.components.trainer import (
    COMPONENT,
    Inputs,
    Outputs,
    Params,
    TrainingError,
    run,
    work,
)
from tests.child import environment

# At the width of MNIST, and in batches of 1024, the bits do depend on the number of threads.
PARAMS = Params(batch_size=1024, epochs=3, dropout=0.1, checkpoint_seconds=0)
SIZES = {"train": 5 * 1024 + 100, "validation": 100, "test": 100}

# Trains in a process of its own: argv = whether TensorFlow has started before, steps after which it
# kills itself, examples, scratch, model.
SCRIPT = """
import dataclasses, logging, os, signal, sys
from pathlib import Path
import tensorflow as tf

started, last_step, examples, scratch, folder = sys.argv[1:]
if int(started):
    tf.constant(0) + 1

from bnpipe.components.artifacts import Model, TransformedExamples
from bnpipe.components.base import Context
from bnpipe.components.network import loop
from bnpipe.components.trainer import Inputs, Outputs, Params, run

def progress(done, total, note):
    if done >= int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

loop.CHUNK_STEPS = 2
run(
    Inputs(examples=TransformedExamples("examples", Path(examples))),
    Outputs(model=Model("model", Path(folder))),
    Params(batch_size=1024, epochs=3, dropout=0.1, checkpoint_seconds=0),
    Context("trainer", "run", Path(scratch), Path(scratch), logging.getLogger(), progress, None,
            input_digests={"examples": "sha256-of-the-examples"}),
)
"""


def start(threads: int, started: int, last_step: int, examples: Path, scratch: Path, folder: Path):
    for path in (scratch, folder):
        path.mkdir()
    variables = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, (started, last_step, examples, scratch, folder))],
        env=environment(TF_CPP_MIN_LOG_LEVEL="3", **dict.fromkeys(variables, str(threads))),
        stderr=subprocess.PIPE,
        text=True,
    )


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "fingerprint.pb")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def wide_examples(write_examples, make_blobs, tmp_path_factory):
    splits = make_blobs(SIZES, (28, 28), 10)
    return write_examples(tmp_path_factory.mktemp("wide") / "examples", splits, (28, 28), 10)


@pytest.fixture(scope="module")
def whole(wide_examples, context, tmp_path_factory):
    """The digests of the files of a run in this process, with one thread."""
    folder, scratch = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("scratch")
    train_here(wide_examples, folder, context(scratch))
    return digests(folder)


def train_here(examples, folder, ctx, **changes):
    model, params = Model("trainer.model", folder), dataclasses.replace(PARAMS, **changes)
    facts = run(Inputs(examples=examples), Outputs(model=model), params, ctx)
    model.check()
    return facts


def finish(process: subprocess.Popen, code: int) -> None:
    _, errors = process.communicate()
    assert process.returncode == code, errors[-3000:]


def test_what_another_process_has_begun_before_kill_9_ends_in_the_same_files(
    wide_examples, whole, context, tmp_path
):
    scratch, killed, folder = (tmp_path / name for name in ("scratch", "killed", "resumed"))
    finish(start(4, 0, 10, wide_examples.path, scratch, killed), -signal.SIGKILL)
    assert digests(killed) == {}
    folder.mkdir()
    facts = train_here(wide_examples, folder, context(scratch))
    # The first epoch is 2 + 2 + 1 steps and a rest. It died just before the checkpoint at 10.
    assert facts["steps_from_checkpoint"] == 6 + 2
    assert digests(folder) == whole
    assert {
        "history.json",
        "model_card.json",
        "saved_model/saved_model.pb",
        "saved_model/variables/variables.data-00000-of-00001",
        "saved_model/variables/variables.index",
        "training.weights.h5",
    } <= set(whole)


@pytest.fixture
def compiled(monkeypatch):
    """One item for every program that is made; none is ready before or after."""
    monkeypatch.setattr(work, "_ready", {})
    programs = []

    def program_for(*args):
        programs.append(loop.program_for(*args))
        return programs[-1]

    monkeypatch.setattr(work, "program_for", program_for)
    return programs


@pytest.fixture
def trained(context, tmp_path):
    """Trains on examples; returns the digests of the model's files."""

    def train(examples, **changes):
        folder, scratch = (Path(tempfile.mkdtemp(dir=tmp_path)) for _ in range(2))
        train_here(examples, folder, context(scratch), **changes)
        return digests(folder)

    return train


def test_what_was_compiled_before_there_were_examples_is_used_once_for_the_same_files(
    compiled, wide_examples, whole, trained
):
    COMPONENT.ahead(PARAMS)
    assert len(compiled) == 1
    assert trained(wide_examples) == whole
    assert len(compiled) == 1
    assert compiled[0]._many_steps.experimental_get_tracing_count() == 1
    # Its network is trained now: a second attempt in this process needs another.
    assert trained(wide_examples) == whole
    assert len(compiled) == 2


def test_what_was_compiled_for_other_examples_is_not_used(compiled, blob_examples, trained):
    alone = trained(blob_examples, batch_size=64)
    COMPONENT.ahead(dataclasses.replace(PARAMS, batch_size=64))
    assert trained(blob_examples, batch_size=64) == alone
    assert len(compiled) == 3


def test_examples_on_disk_are_not_trained_by_what_was_compiled_for_memory(
    compiled, wide_examples, whole, trained
):
    COMPONENT.ahead(PARAMS)  # of another budget, so that it is not taken for these parameters
    work._ready[dataclasses.replace(PARAMS, memory_budget_mb=1)] = work._ready.pop(PARAMS)
    assert trained(wide_examples, memory_budget_mb=1) == whole
    assert len(compiled) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},  # ends with the last epoch
        {"memory_budget_mb": 100},  # of MNIST's examples on disk
        {"batch_size": 1_000_000},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_hangs_on_the_examples_is_not_compiled_without_them(compiled, changes):
    COMPONENT.ahead(dataclasses.replace(PARAMS, **changes))
    assert not compiled


@pytest.mark.slow
@pytest.mark.parametrize(("threads", "started"), [(4, 0), (1, 1)])
def test_every_file_is_the_same_in_every_process(threads, started, wide_examples, whole, tmp_path):
    folder = tmp_path / "other"
    finish(start(threads, started, 1000, wide_examples.path, tmp_path / "scratch", folder), 0)
    assert digests(folder) == whole


def test_several_threads_that_cannot_be_taken_back_are_refused(
    blob_examples, context, tmp_path, monkeypatch
):
    import tensorflow as tf

    def refuse(threads):
        raise RuntimeError("Intra op parallelism cannot be modified after initialization.")

    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", refuse)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    with pytest.raises(TrainingError, match="already started with several threads") as caught:
        run(
            Inputs(examples=blob_examples),
            Outputs(model=Model("trainer.model", tmp_path)),
            PARAMS,
            context(tmp_path / "scratch"),
        )
    assert "TF_NUM_INTRAOP_THREADS=1" in caught.value.hint
