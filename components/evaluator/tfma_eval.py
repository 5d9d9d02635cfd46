"""TFMA over predictions that were made once: standard TFMA output, without loading a model again.

Importing TFMA costs seconds, so only `run` imports this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2, metrics_for_slice_pb2

from components.evaluator import tfma_config
from components.evaluator.predictions import Predictions

BATCH_ROWS = 1000


class ReadPredictions(beam.DoFn):  # type: ignore[misc]
    """Turns `(start, stop)` into TFMA extracts of those rows of `predictions.npz`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def setup(self) -> None:
        """Reads the file once per worker."""
        self._stored = Predictions.read(Path(self._path))

    def process(self, element: tuple[int, int]) -> Iterator[dict[str, Any]]:
        """`(start, stop)` -> the extracts of these rows."""
        rows = slice(*element)
        stored = self._stored
        features = {"label": stored.labels[rows, None]}
        features |= {name: column[rows, None] for name, column in stored.columns.items()}
        features |= {
            tfma_config.prediction_key(name): value[rows]
            for name, value in stored.probabilities.items()
        }
        yield {tfma.FEATURES_KEY: features}


def evaluate(
    pipeline: Callable[[], AbstractContextManager[Any]],
    stored: Path,
    rows: int,
    configs: Mapping[Path, config_pb2.EvalConfig],
) -> None:
    """Runs every config over the stored predictions in one Beam pipeline.

    Args:
        pipeline: makes the Beam pipeline to run in.
        stored: `predictions.npz`.
        rows: how many images it holds.
        configs: what to compute, by output folder.
    """
    ranges = [(start, min(start + BATCH_ROWS, rows)) for start in range(0, rows, BATCH_ROWS)]
    with pipeline() as p:
        extracts = (
            p | "Ranges" >> beam.Create(ranges) | "Read" >> beam.ParDo(ReadPredictions(str(stored)))
        )
        for folder, config in configs.items():
            models = [
                # Only displayed: a name instead of a path keeps eval_config.json free of places.
                tfma.default_eval_shared_model(
                    eval_saved_model_path=spec.name, model_name=spec.name, eval_config=config
                )
                for spec in config.model_specs
            ]
            _ = extracts | f"TFMA {folder.name}" >> tfma.ExtractEvaluateAndWriteResults(
                eval_shared_model=models, eval_config=config, output_path=str(folder)
            )
    for folder in configs:
        _sort_records(folder)


def _sort_records(folder: Path) -> None:
    """Brings TFMA's records into one order: they come in the order of a hash table."""
    for prefix, message in (
        ("metrics", metrics_for_slice_pb2.MetricsForSlice),
        ("plots", metrics_for_slice_pb2.PlotsForSlice),
    ):
        for path in sorted(folder.glob(f"{prefix}-*")):
            stored = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
            records = [message.FromString(record) for record in stored]
            records.sort(key=lambda record: record.slice_key.SerializeToString(deterministic=True))
            with tf.io.TFRecordWriter(str(path)) as writer:
                for record in records:
                    writer.write(record.SerializeToString(deterministic=True))


def failures(folder: Path) -> tuple[str, ...] | None:
    """The thresholds that TFMA found broken, as sentences; None when it had none to check."""
    result = tfma.load_validation_result(str(folder))
    if result.missing_thresholds:
        return None
    told = []
    for part in result.metric_validations_per_slice:
        name = tfma.slicer.stringify_slice_key(tfma.slicer.deserialize_slice_key(part.slice_key))
        for failure in part.failures:
            told.append(f"{failure.metric_key.name} on {name}: {failure.message}")
    told += [f"slice {spec} has no image" for spec in result.missing_slices]
    if not result.validation_ok and not told:
        told.append("not ok, without a reason")
    return tuple(sorted(told))
