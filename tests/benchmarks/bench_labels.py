"""What the label gate finds in MNIST: false alarms, planted mistakes, doubtful test images.

    BNPIPE_ARCHIVES=<folder> python tests/benchmarks/bench_labels.py [TRIALS]

Each trial trains the quick networks anew, with other planted mistakes; 20 take some minutes.
"""

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # as `bnpipe run` has it
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from bnpipe.components import cross_validation
from bnpipe.components.artifacts import CrossValidation, Examples, LabelQuality
from bnpipe.components.base import Context
from bnpipe.components.cross_validation.work import by_folds
from bnpipe.components.label_validator import Inputs, Outputs, Params, confident, run
from bnpipe.components.label_validator.gate import Part, decide
from bnpipe.components.network.rows import Rows
from bnpipe.components.study.doubtful import doubtful
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.preprocessing import flatten_and_scale
from tests.components.example_validator.test_gate_power import read_splits
from tests.components.label_validator import label_data

RESAMPLES, SPAN = 1000, 300
_MEASURE = "measure"


def main() -> None:
    """Measures and prints."""
    if sys.argv[1:2] == [_MEASURE]:
        _measured(Path(sys.argv[2]))
        return
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    splits = read_splits(Path(os.environ["BNPIPE_ARCHIVES"]))
    with tempfile.TemporaryDirectory() as folder:
        examples = label_data.write(Path(folder) / "examples", splits)
        # A process of its own: this one has held more memory already.
        subprocess.run([sys.executable, __file__, _MEASURE, folder], check=True)
        with np.load(Path(folder) / "quality" / "suspects.npz") as stored:
            found = dict(stored)
        images, _ = splits["test"]
        marked = doubtful(flatten_and_scale(images))
        names = {f"test/0/{row:06}".encode() for row in np.flatnonzero(marked)}
        first = names & set(found["test/id"][:100].tolist())
        _say(f"of {len(names)} doubtful test images {len(first)} are among the first 100 suspects")
        rows = Rows.read(examples, DatasetInfo.read(examples.path), Path(folder) / "pixels")
        _false_alarms(rows, by_folds(rows, 0, lambda *_: None))
    for share in (0.1, 1.0):
        blocked = [_permuted(splits, share, seed) for seed in range(trials)]
        _say(f"spans of {SPAN}, {share:.0%} permuted: {sum(blocked)} of {trials} blocked")
    for seed in range(3):
        recall, precision = _flipped(splits, 0.01, seed)
        _say(f"1 % flipped in 10,000: recall {recall:.0%}, precision {precision:.0%}")


def _measured(folder: Path) -> None:
    """Runs both steps on `folder/examples`, and says what that takes with libraries loaded."""
    cross_validation.COMPONENT.ahead(cross_validation.Params())
    import bnpipe.components.label_validator.work  # noqa: F401

    before, began, worked = _peak(), time.perf_counter(), time.process_time()
    _run(folder)
    _say(
        f"70,000 images: {time.perf_counter() - began:.1f} s, of the processor "
        f"{time.process_time() - worked:.1f} s, {_peak() - before:.0f} MB more "
        f"(load {os.getloadavg()[0]:.1f})"
    )


def _false_alarms(rows: Rows, probabilities: Any) -> None:
    """The gate on resamples of labels that nobody has touched, and on spans drawn from them."""
    classes = confident.confident_classes(
        probabilities, confident.thresholds(probabilities, rows.labels)
    )
    rng, blocked, warned = np.random.default_rng(0), 0, 0
    by_split = [np.flatnonzero(rows.splits == split) for split in range(3)]

    def part(chosen: Any, size: int, reference: Part | None = None) -> Part:
        drawn = rng.choice(chosen, size)
        share = confident.wrong_share(rows.labels[drawn], classes[drawn], 10)
        return Part("a part", size, share, reference)

    for _ in range(RESAMPLES):
        own = part(by_split[0], len(by_split[0]))
        others = [part(by_split[split], len(by_split[split]), own) for split in (1, 2)]
        spans = [part(by_split[split], SPAN, own) for split in (0, 1, 2)]
        decision = decide([own, *others, *spans], Params())
        blocked += not decision.passed
        warned += any(ruling.outcome == "warn" for ruling in decision.rulings)
    _say(f"0 % planted: {blocked} of {RESAMPLES} resamples blocked, {warned} warned of")


def _permuted(splits: Mapping[str, label_data.Images], share: float, seed: int) -> bool:
    """Whether a span is blocked of whose labels a share have changed places."""
    rng = np.random.default_rng([seed, round(100 * share)])
    images, labels = splits["train"]
    chosen = rng.permutation(len(labels))
    span, own = chosen[:SPAN], chosen[SPAN : SPAN + 10_000]
    bad = images[span], label_data.permuted(labels[span], share, rng)
    data = {"train": (images[own], labels[own])}
    with tempfile.TemporaryDirectory() as folder:
        label_data.write(Path(folder) / "examples", data, {"1": {"train": bad}})
        passed, _ = _run(Path(folder))
    return not passed


def _flipped(
    splits: Mapping[str, label_data.Images], share: float, seed: int
) -> tuple[float, float]:
    """Recall and precision of the suspects that count as wrong."""
    rng = np.random.default_rng(seed)
    images, labels = splits["train"]
    chosen = rng.permutation(len(labels))[:10_000]
    bad = label_data.flipped(labels[chosen], share, rng)
    planted = {f"train/0/{i:06}".encode() for i in np.flatnonzero(bad != labels[chosen])}
    data = {"train": (images[chosen], bad)}
    with tempfile.TemporaryDirectory() as folder:
        label_data.write(Path(folder) / "examples", data)
        _, found = _run(Path(folder))
    named = set(found["train/id"][found["train/confident"]].tolist())
    return len(named & planted) / len(planted), len(named & planted) / max(len(named), 1)


def _run(folder: Path) -> tuple[bool, dict[str, Any]]:
    """The step's verdict and suspects, on `folder/examples`."""
    quality, probabilities = folder / "quality", folder / "answers"
    quality.mkdir()
    probabilities.mkdir()
    log = logging.getLogger("bench")
    ctx = Context("label_validator", "bench", folder, folder, log, lambda *_: None, nullcontext)
    examples = Examples("examples", folder / "examples")
    answers = CrossValidation("answers", probabilities)
    cross_validation.run(
        cross_validation.Inputs(examples=examples),
        cross_validation.Outputs(answers=answers),
        cross_validation.Params(),
        ctx,
    )
    inputs = Inputs(examples=examples, answers=answers)
    facts = run(inputs, Outputs(quality=LabelQuality("quality", quality)), Params(), ctx)
    with np.load(quality / "suspects.npz") as stored:
        return bool(facts["passed"]), dict(stored)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _peak() -> float:
    """MB; what `getrusage` tells of a child begins with its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
