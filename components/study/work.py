"""The study's work: the splits to files, processes that train, their records to the artifact."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.components.base import Context, Facts
from bnpipe.components.network.examples import OnDisk, Split, open_splits
from bnpipe.components.study.doubtful import doubtful
from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import (
    BATCH_SIZE,
    FEW_IMAGES,
    MOST_IMAGES,
    Unit,
    units,
)
from bnpipe.components.study.results import Study, parse, write
from bnpipe.components.study.step import WORKER
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.durable import replace_text
from bnpipe.data.errors import BnpipeError
from bnpipe.data.json_text import json_text

TASK, ARRAYS, LIVE = "task.json", "arrays", "live.npy"
_LOOK_SECONDS = 0.5


class StudyError(BnpipeError):
    """The study cannot be made of these examples, or a process ended before its work."""


def study(examples: TransformedExamples, output: Study, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    images = _prepare(examples, params, ctx.scratch)
    planned = units(params, images)
    files = {unit: finished(ctx.scratch, unit) for unit in planned}
    there = sum(file.exists() for file in files.values())
    if there:
        ctx.log.info("went on after %d of %d trainings", there, len(files))
    with _Workers(params.workers, ctx.scratch) as workers:
        while (done := sum(file.exists() for file in files.values())) < len(files):
            ctx.progress(done, len(files), "trainings")
            workers.keep_at_work()
            time.sleep(_LOOK_SECONDS)
    return _collect(files, params, output)


def finished(folder: Path, unit: Unit) -> Path:
    """The file of a finished training in the scratch folder of a study."""
    return folder / f"{unit.name}.json"


def _prepare(examples: TransformedExamples, params: Params, scratch: Path) -> int:
    """Writes what the processes read; returns how many train images there are.

    Raises:
        StudyError: a split has too few examples.
        TrainingError: rows that the trainer would refuse.
    """
    info = DatasetInfo.read(examples.path)
    folder = scratch / ARRAYS
    folder.mkdir(exist_ok=True)
    # Not through the memory of this process, which stays for as long as the study.
    train, validation = open_splits(examples, info, 0, folder, MOST_IMAGES)
    file = folder / "test.float32"
    test = OnDisk.write(examples.shards("test"), file, info.features, MOST_IMAGES)
    splits = {"train": train, "validation": validation, "test": test}
    live = live_features(splits.values(), info.features)
    for name, split in splits.items():
        least = BATCH_SIZE if name == "train" else 1
        if split.size < least:
            raise StudyError(
                f"split {name}: expected at least {least} examples, received {split.size}",
                hint="study a larger data set",
            )
        np.save(folder / f"{name}_labels.npy", split.labels)
    np.save(folder / "doubtful.npy", doubtful(features_of("test", scratch, info.features)))
    np.save(folder / LIVE, live)
    for name, split in splits.items():
        with (folder / "part").open("wb") as part:
            for features, _ in split.blocks():
                part.write(features[:, live].tobytes())
        (folder / "part").replace(folder / f"{name}.float32")
    task = {"params": asdict(params), "classes": info.classes}
    replace_text(scratch / TASK, json_text(task))
    return train.size


def live_features(splits: Iterable[Split], features: int) -> npt.NDArray[np.bool_]:
    """Those that are not 0 in every image, bool[features]: the first, if there are none.

    The weights of the others have no gradient, and change nothing: of MNIST's pixels that is a
    twelfth, and as much of the time of a step.
    """
    live = np.zeros(features, np.bool_)
    for split in splits:
        for block, _ in split.blocks():
            live |= block.any(0)
    live[0] |= not live.any()
    return live


def features_of(split: str, scratch: Path, features: int) -> Any:
    """The features of a split, float32[n, features], in memory that processes share."""
    file = scratch / ARRAYS / f"{split}.float32"
    return np.asarray(np.memmap(file, np.float32, "c").reshape(-1, features))


class _Workers:
    """Processes of one thread each, which are ended with the block, and by the kernel with us."""

    def __init__(self, count: int, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * count

    def keep_at_work(self) -> None:
        """Starts those that are not there: at first all, then those that have become too large.

        Raises:
            StudyError: one has died.
        """
        for number, process in enumerate(self._processes):
            code = None if process is None else process.poll()
            if code:
                raise self._died(number, code)
            if process is None or code == 0:
                self._processes[number] = self._start(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is half written."""
        for process in filter(None, self._processes):
            process.kill()
            process.wait()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "TF_NUM_INTRAOP_THREADS": "1",  # bits of large products depend on it
            "TF_NUM_INTEROP_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "-1",
            "MALLOC_ARENA_MAX": "1",  # each thread that compiles would keep one of its own
        }
        # -P: nothing is imported from the current folder.
        command = [sys.executable, "-P", "-m", WORKER, str(os.getpid()), str(self._folder)]
        with self._log(number).open("wb") as log:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.log"

    def _died(self, number: int, code: int) -> StudyError:
        text = self._log(number).read_text(errors="replace")
        said = [line for line in text.splitlines() if line.strip()] or ["nothing"]
        return StudyError(
            f"a process that trains ended with code {code}; it said last: {said[-1][-300:]}",
            hint="what is trained is kept: bnpipe study goes on from there",
        )


def _collect(files: dict[Unit, Path], params: Params, output: Study) -> Facts:
    """Writes the artifact in the order of the plan; the times are facts, not records."""
    lines: list[str] = []
    seconds: dict[str, list[float]] = defaultdict(list)
    for unit, file in files.items():
        stored: dict[str, Any] = json.loads(file.read_text())
        for record in stored["trainings"]:
            if record["experiment"] in params.experiments:
                lines.append(json_text(record))
        if unit.depth == 2 and unit.optimizer == "adam" and unit.images > FEW_IMAGES:
            seconds[unit.arm].append(stored["seconds_per_step"])
    trainings = parse(lines)
    write(output.path, trainings)
    return {
        "trainings": len(trainings),
        "steps": sum(unit.steps for unit in files),
        **{f"seconds_per_step_{arm}": statistics.median(s) for arm, s in seconds.items()},
    }
