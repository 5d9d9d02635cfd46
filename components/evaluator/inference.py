"""Asks the exported SavedModels, in large batches on Beam: what is evaluated is what is pushed."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.components.network.saved_model import ask
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.records.examples import read_blocks
from bnpipe.data.records.shards import UnitReport, read_reports, write_reports


class Predict(beam.DoFn):
    """Reads one shard, asks every model for it in batches, and leaves the answers as one file."""

    def __init__(self, models: Mapping[str, str], batch_size: int, folder: str) -> None:
        self._models = dict(models)
        self._batch_size = batch_size
        self._folder = folder

    def process(self, element: tuple[int, str]) -> Iterator[UnitReport]:
        """Handles `(index, shard)`."""
        index, shard = element
        try:
            yield self._answer(index, shard)
        except (BnpipeError, OSError) as error:
            yield UnitReport.failed(shard, error)

    def _answer(self, index: int, shard: str) -> UnitReport:
        answers = [
            Predictions(
                block.id,
                block.label,
                block.columns,
                {name: ask(path, block.features) for name, path in self._models.items()},
            )
            for block in read_blocks([Path(shard)], self._batch_size)
        ]
        file = Path(self._folder) / f"{index:05d}.npz"
        if answers:
            Predictions.joined(answers).write(file)
        sizes = {file.name: file.stat().st_size} if answers else {}
        images = sum(part.labels.size for part in answers)
        return UnitReport(shard, {file.name: images}, sizes=sizes)


def predict(
    pipeline: Callable[[], AbstractContextManager[Any]],
    shards: Mapping[Path, int],
    models: Mapping[str, Path],
    batch_size: int,
    folder: Path,
    log: logging.Logger | None = None,
) -> Predictions:
    """Asks every model for every image, shard by shard on Beam.

    Args:
        pipeline: makes the Beam pipeline to run in.
        shards: the split's TransformedExamples in order, each with its number of images.
        models: SavedModel folders by model name; may be empty.
        batch_size: images per call.
        folder: where the shards' answers are left for a moment.
        log: is told how much each host did.

    Raises:
        DataError: the split holds no images at all, or workers saw others than those.
    """
    if not sum(shards.values()):
        raise DataError(
            f"expected images in {len(shards)} shards of the evaluated split, received none",
            hint="evaluate another split: bnpipe run --set evaluator.split=validation",
        )
    folder.mkdir(parents=True)
    reports = folder / "reports.json"
    paths = {name: str(path) for name, path in models.items()}
    with pipeline() as p:
        _ = (
            p
            | "Shards" >> beam.Create([(i, str(shard)) for i, shard in enumerate(shards)])
            | "SpreadShards" >> beam.Reshuffle()
            | "Predict" >> beam.ParDo(Predict(paths, batch_size, str(folder)))
            | "CollectReports" >> beam.combiners.ToList()
            | "WriteReports" >> beam.Map(write_reports, reports)
        )
    asked = {str(shard): images for shard, images in shards.items()}
    found = read_reports(reports, asked=asked, folder=folder, log=log)
    answers = Predictions.read(*sorted(folder / name for r in found for name in r.sizes))
    shutil.rmtree(folder)
    return answers


def batch_difference(saved_model: str, features: npt.NDArray[np.float32]) -> float:
    """The largest change of a probability between rows in one batch and each row alone.

    Both are asked here: the stored answers may themselves come from batches of one row.

    Args:
        saved_model: the SavedModel folder.
        features: float32[N, D].

    Returns:
        NaN with fewer than two rows, which are no batch.
    """
    if len(features) < 2:
        return float("nan")
    together = ask(saved_model, features)
    alone = np.concatenate([ask(saved_model, row[None]) for row in features])
    return float(np.abs(alone.astype(np.float64) - together).max())
