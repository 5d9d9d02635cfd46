"""The study's work: the splits to files, processes that train, their records to the artifact."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np

from bnpipe.components.artifacts import TransformedExamples
from bnpipe.components.base import Context, Facts
from bnpipe.components.study.doubtful import doubtful
from bnpipe.components.study.params import Params
from bnpipe.components.study.plan import (
    BATCH_SIZE,
    CUSTOM_SEEDS,
    FEW_IMAGES,
    MOST_IMAGES,
    Unit,
    scaled,
    units,
)
from bnpipe.components.study.results import Study, parse, write
from bnpipe.components.study.step import WORKER
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.durable import replace_text
from bnpipe.data.errors import BnpipeError
from bnpipe.data.json_text import json_text
from bnpipe.data.records.examples import read_batches

TASK, ARRAYS = "task.json", "arrays"
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
    """
    info = DatasetInfo.read(examples.path)
    folder = scratch / ARRAYS
    folder.mkdir(exist_ok=True)
    for split, least in (("train", BATCH_SIZE), ("validation", 1), ("test", 1)):
        size = min(info.splits.get(split, 0), MOST_IMAGES)
        if size < least:
            raise StudyError(
                f"split {split}: expected at least {least} examples, received {size}",
                hint="study a larger data set",
            )
        # Not through the memory of this process, which stays for as long as the study.
        shape = size, info.features
        features = np.lib.format.open_memmap(
            folder / f"{split}_features.npy", "w+", np.float32, shape
        )
        labels, row = np.empty(size, np.int32), 0
        for batch in (b for shard in examples.shards(split) for b in read_batches(shard)):
            stop = min(size, row + len(batch.columns["label"]))
            features[row:stop] = batch.columns["features"][: stop - row]
            labels[row:stop] = batch.columns["label"][: stop - row]
            row = stop
        np.save(folder / f"{split}_labels.npy", labels)
        if split == "test":
            np.save(folder / "doubtful.npy", doubtful(features))
    replace_text(scratch / TASK, json_text({"params": asdict(params), "classes": info.classes}))
    return min(info.splits["train"], MOST_IMAGES)


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
    custom = scaled(CUSTOM_SEEDS, params)
    lines: list[str] = []
    seconds: dict[str, list[float]] = defaultdict(list)
    for unit, file in files.items():
        stored: dict[str, Any] = json.loads(file.read_text())
        for record in stored["trainings"]:
            wanted = record["experiment"] in params.experiments
            if wanted and (record["experiment"] != "custom" or record["seed"] < custom):
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
