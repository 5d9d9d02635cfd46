"""Asks the exported SavedModels, in large batches on Beam: what is evaluated is what is pushed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.records.examples import read_transformed
from bnpipe.data.records.shards import UnitReport, read_reports, write_reports
from bnpipe.serving.export.signatures import CLASSIFY, DEFAULT, SIGNATURES
from bnpipe.serving.folder.names import plain_path

_FAULTS = (tf.errors.PermissionDeniedError, tf.errors.ResourceExhaustedError)


@lru_cache(maxsize=8)
def load(saved_model: str) -> Any:
    """A SavedModel; loading one takes half a second, and stages of one process share it."""
    return tf.saved_model.load(saved_model)


def unusable(saved_model: Path, info: DatasetInfo) -> str:
    """Says what keeps a SavedModel from answering for a data set's images; empty if nothing.

    Raises:
        RequestError: TensorFlow would not find it by its path. Like other faults of the machine,
            which are raised too, that says nothing about the model.
    """
    plain_path(saved_model, "model")
    if not (saved_model / "saved_model.pb").is_file():
        return "there is no SavedModel in its folder"
    try:
        signatures = load(str(saved_model)).signatures
    except (PermissionError, *_FAULTS):
        raise
    except (OSError, ValueError, tf.errors.OpError) as error:
        return f"its SavedModel does not load ({type(error).__name__}: {_first_line(error)})"
    if DEFAULT not in signatures:
        return f"it has no signature {DEFAULT!r}, only {', '.join(sorted(signatures)) or 'none'}"
    expected = tf.TensorSpec([None, info.features], tf.float32)
    specs = signatures[DEFAULT].structured_input_signature[1]
    received = specs.get("features")
    if set(specs) != {"features"} or not received.is_compatible_with(expected):
        inputs = ", ".join(f"{n} {s.dtype.name}{s.shape}" for n, s in sorted(specs.items()))
        return f"it expects {inputs}, the examples are features float32{expected.shape}"
    answer = signatures[DEFAULT].structured_outputs.get("probabilities")
    if answer is None or answer.shape.rank != 2 or answer.shape[1] not in (None, info.classes):
        shape = "none" if answer is None else str(answer.shape)
        return (
            f"it answers with probabilities of shape {shape}, "
            f"the data set has {info.classes} classes"
        )
    return _other_labels(signatures, info)


def _other_labels(signatures: Mapping[str, Any], info: DatasetInfo) -> str:
    """Says which classes a model names if they are not the data set's; empty if they are."""
    if CLASSIFY not in signatures:
        return ""
    request = SIGNATURES[CLASSIFY].request(np.zeros((1, info.height, info.width), np.uint8))
    try:
        answer = signatures[CLASSIFY](**{key: tf.constant(x) for key, x in request.items()})
        named = answer["classes"].numpy()[0].tolist()
    except (KeyError, TypeError, ValueError, tf.errors.OpError):
        return ""  # It has another kind of `classify`, which is not what is evaluated here.
    expected = [name.encode() for name in info.label_names]
    if named == expected:
        return ""
    listed = ", ".join(name.decode(errors="replace") for name in named)
    return f"its classes are called {listed}, those of the data set {', '.join(info.label_names)}"


def ask(saved_model: str, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The probabilities that `serving_default` gives for a batch.

    Args:
        saved_model: the SavedModel folder.
        features: float32[N, D].

    Returns:
        float32[N, K].
    """
    answer = load(saved_model).signatures[DEFAULT](features=tf.constant(features))
    return np.asarray(answer["probabilities"].numpy(), dtype=np.float32)


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
        split = read_transformed([Path(shard)])
        starts = range(0, split.label.size, self._batch_size)
        probabilities = {
            name: np.concatenate(
                [ask(path, split.features[s : s + self._batch_size]) for s in starts]
            )
            for name, path in self._models.items()
            if starts
        }
        file = Path(self._folder) / f"{index:05d}.npz"
        if starts:
            Predictions(split.id, split.label, split.columns, probabilities).write(file)
        sizes = {file.name: file.stat().st_size} if starts else {}
        return UnitReport(shard, {file.name: split.label.size}, sizes=sizes)


def predict(
    pipeline: Callable[[], AbstractContextManager[Any]],
    shards: Mapping[Path, int],
    models: Mapping[str, Path],
    batch_size: int,
    folder: Path,
) -> Predictions:
    """Asks every model for every image, shard by shard on Beam.

    Args:
        pipeline: makes the Beam pipeline to run in.
        shards: the split's TransformedExamples in order, each with its number of images.
        models: SavedModel folders by model name; may be empty.
        batch_size: images per call.
        folder: where the shards' answers are left for a moment.

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
    found = read_reports(reports, asked=asked, folder=folder)
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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
