"""TFMA over predictions that were made once: standard TFMA output, without loading a model again.

TFMA hands every example to every metric on its own: for 10,000 images and three models that is 17 s
of processor. But an example may have many labels, with as many predictions and weights, so what is
an example to TFMA is here a block of images of the same slices. Blocks are equally long, because
TFMA stacks them; the last one of a slice is filled up with images of weight 0.

It runs in this process, whatever the run's engine: its input, the answers, is here already, and its
float32 sums would depend on the number of workers.

Importing TFMA costs seconds, so only `run` imports this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import (
    config_pb2,
    metrics_for_slice_pb2,
    validation_result_pb2,
)

from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.data import beam_io
from bnpipe.data.json_text import json_text
from bnpipe.data.records.shards import check_seen

BLOCK_IMAGES = 256
"""Images in an example of TFMA."""


class ReadBlocks(beam.DoFn):
    """Turns `(start, stop)` into a TFMA extract of these rows of `predictions.npz`, in slice order.

    Args:
        path: the file.
        columns: the columns that the slices are cut by.
        models: whose answers to read.
    """

    def __init__(self, path: str, columns: tuple[str, ...], models: tuple[str, ...]) -> None:
        self._path = path
        self._columns = columns
        self._models = models

    def setup(self) -> None:
        """Reads the file once per worker."""
        self._stored = Predictions.read(Path(self._path))
        self._order, _ = slice_order(self._stored, self._columns)

    def process(self, element: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """Yields one extract; its images are equal in every slice column."""
        start, stop = element
        rows = np.resize(self._order[start:stop], BLOCK_IMAGES)
        weights = (np.arange(BLOCK_IMAGES) < stop - start).astype(np.float32)
        answers = {name: self._stored.probabilities[name][rows] for name in self._models}
        yield {
            tfma.INPUT_KEY: b"",  # TFMA measures its size, and warns when there is none.
            tfma.FEATURES_KEY: {n: self._stored.column(n)[rows[:1]] for n in self._columns},
            tfma.LABELS_KEY: self._stored.labels[rows],
            tfma.EXAMPLE_WEIGHTS_KEY: weights,
            # TFMA keys answers by model only when there are several.
            tfma.PREDICTIONS_KEY: answers if len(answers) > 1 else answers[self._models[0]],
        }


def slice_order(
    stored: Predictions, columns: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]]]:
    """An order of the rows, int64[N], that puts equal slices together, and its blocks as ranges."""
    keys = [stored.column(name) for name in columns]
    order = np.lexsort(keys) if keys else np.arange(stored.labels.size)
    changes = np.zeros(order.size, dtype=bool)
    changes[::BLOCK_IMAGES] = True
    for key in keys:
        changes[1:] |= key[order][1:] != key[order][:-1]
    starts = np.flatnonzero(changes).tolist()
    return order, list(zip(starts, [*starts[1:], order.size], strict=True))


def evaluate(
    stored: Path,
    config: config_pb2.EvalConfig,
    folder: Path,
) -> None:
    """Evaluates the stored predictions of every model of a config.

    Args:
        stored: `predictions.npz`.
        config: what to compute.
        folder: where TFMA writes.
    """
    columns = tuple(sorted({key for spec in config.slicing_specs for key in spec.feature_keys}))
    names = tuple(spec.name for spec in config.model_specs)
    images = Predictions.read(stored)
    number, (_, blocks) = images.labels.size, slice_order(images, columns)
    del images  # the workers read them again
    models = [_display_only(name, config) for name in names]
    with beam_io.pipeline(()) as p:
        _ = (
            p
            | "Blocks" >> beam.Create(blocks)
            | "Read" >> beam.ParDo(ReadBlocks(str(stored), columns, names))
            | "TFMA"
            >> tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=models,
                eval_config=config,
                extractors=[tfma.extractors.SliceKeyExtractor(eval_config=config)],
                writers=_writers(config, models, folder),
            )
        )
    _canonical(folder)
    check_seen("images in TFMA's metrics", min(_counted(folder), default=0), number)


def _writers(config: config_pb2.EvalConfig, models: Sequence[Any], folder: Path) -> list[Any]:
    """TFMA's own, but not for plots and attributions: they are empty, and an eighth of the job."""
    wanted = tfma.METRICS_KEY, tfma.VALIDATIONS_KEY
    paths = {key: str(folder / key) for key in wanted}
    locations = {model.model_name: model.model_path for model in models}
    return [
        tfma.writers.EvalConfigWriter(str(folder), config, model_locations=locations),
        tfma.writers.MetricsPlotsAndValidationsWriter(paths, config),
    ]


def _counted(folder: Path) -> Iterator[int]:
    """How many images TFMA saw, by each of its models."""
    for path in folder.glob("metrics-*.tfrecord"):
        for stored in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            record = metrics_for_slice_pb2.MetricsForSlice.FromString(stored)
            for metric in record.metric_keys_and_values:
                overall = not record.slice_key.single_slice_keys and not metric.key.is_diff
                if overall and metric.key.name == "example_count":
                    yield int(metric.value.double_value.value)


def _display_only(name: str, config: config_pb2.EvalConfig) -> Any:
    """A model for TFMA to name: nothing loads it, and no path gets into eval_config.json."""
    return tfma.default_eval_shared_model(
        eval_saved_model_path=name, model_name=name, eval_config=config
    )


def _canonical(folder: Path) -> None:
    """Brings TFMA's output into one order: its hash tables give others."""
    for prefix, message in (
        ("metrics", metrics_for_slice_pb2.MetricsForSlice),
        ("validations", validation_result_pb2.ValidationResult),
    ):
        for path in folder.glob(f"{prefix}*.tfrecord"):
            stored = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
            records = [message.FromString(record) for record in stored]
            for record in records:
                if prefix == "validations":
                    _sort_validation(record)
            with tf.io.TFRecordWriter(str(path)) as writer:
                for line in sorted(map(_bytes, records)):
                    writer.write(line)
    config = folder / "eval_config.json"
    config.write_text(json_text(json.loads(config.read_text()), indent=2, sort_keys=True) + "\n")


def _sort_validation(result: Any) -> None:
    validated, details = result.metric_validations_per_slice, result.validation_details
    for part in validated:
        part.failures.sort(key=_bytes)
    for parts in (validated, result.missing_slices, details.slicing_details):
        parts.sort(key=_bytes)


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def failures(config: config_pb2.EvalConfig, folder: Path) -> tuple[str, ...] | None:
    """The thresholds that are broken by TFMA's validation, as sentences; None without thresholds.

    Args:
        config: what TFMA was asked.
        folder: where it wrote.
    """
    metrics = [metric for spec in config.metrics_specs for metric in spec.metrics]
    if not any(metric.per_slice_thresholds for metric in metrics):
        return None
    result = tfma.load_validation_result(str(folder))
    if result.missing_thresholds:
        return ("its output says that it checked no threshold, but it has some",)
    broken = {f"slice {spec} has no image" for spec in result.missing_slices}
    for part in result.metric_validations_per_slice:
        name = tfma.slicer.stringify_slice_key(tfma.slicer.deserialize_slice_key(part.slice_key))
        broken |= {f"{f.metric_key.name} on {name}: {f.message}" for f in part.failures}
    if not result.validation_ok and not broken:
        return ("not ok, without a reason",)
    return tuple(sorted(broken))
