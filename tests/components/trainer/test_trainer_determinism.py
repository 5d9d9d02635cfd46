"""Equal inputs give equal bytes: in other processes, with other threads, and after kill -9."""

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from components.artifacts import Model
from components.trainer import Inputs, Outputs, Params, run

PARAMS = Params(hidden_units=(8, 6), batch_size=20, epochs=3, dropout=0.1, checkpoint_seconds=0)

# Trains in a process of its own: argv = threads, steps after which it kills itself, examples,
# scratch, model.
SCRIPT = """
import dataclasses, logging, os, signal, sys
from pathlib import Path
import tensorflow as tf

threads, last_step, examples, scratch, folder = sys.argv[1:]
tf.config.threading.set_intra_op_parallelism_threads(int(threads))
tf.config.threading.set_inter_op_parallelism_threads(int(threads))
tf.constant(0) + 1  # starts TensorFlow, so that the trainer cannot choose the threads any more

from components.artifacts import Model, TransformedExamples
from components.base import Context
from components.trainer import Inputs, Outputs, Params, loop, run

def progress(done, total, note):
    if done >= int(last_step):
        os.kill(os.getpid(), signal.SIGKILL)

loop.CHUNK_STEPS = 4
run(
    Inputs(examples=TransformedExamples("examples", Path(examples))),
    Outputs(model=Model("model", Path(folder))),
    Params(hidden_units=(8, 6), batch_size=20, epochs=3, dropout=0.1, checkpoint_seconds=0),
    Context("trainer", "run", Path(scratch), Path(scratch), logging.getLogger(), progress, None,
            input_digests={"examples": "sha256-of-the-examples"}),
)
"""


def start(threads: int, last_step: int, examples: Path, scratch: Path, folder: Path):
    for path in (scratch, folder):
        path.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, (threads, last_step, examples, scratch, folder))],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stderr=subprocess.PIPE,
        text=True,
    )


def digests(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "fingerprint.pb")
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_every_file_is_the_same_in_every_process_and_after_kill_9(blob_examples, context, tmp_path):
    two_threads = start(2, 1000, blob_examples.path, tmp_path / "scratch", tmp_path / "threads")
    killed = start(1, 15, blob_examples.path, tmp_path / "killed_scratch", tmp_path / "killed")
    for process, code in ((two_threads, 0), (killed, -signal.SIGKILL)):
        _, errors = process.communicate(timeout=300)
        assert process.returncode == code, errors[-3000:]
    assert digests(tmp_path / "killed") == {}

    folder = tmp_path / "resumed"
    folder.mkdir()
    model = Model("trainer.model", folder)
    facts = run(
        Inputs(examples=blob_examples),
        Outputs(model=model),
        PARAMS,
        context(tmp_path / "killed_scratch"),
    )
    model.check()
    assert facts["steps_from_checkpoint"] == 11  # the whole first epoch
    assert digests(folder) == digests(tmp_path / "threads")
    assert set(digests(folder)) == {
        "history.json",
        "model_card.json",
        "saved_model/saved_model.pb",
        "saved_model/variables/variables.data-00000-of-00001",
        "saved_model/variables/variables.index",
        "training.weights.h5",
    }
