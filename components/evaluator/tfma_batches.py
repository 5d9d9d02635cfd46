"""TFMA's metrics, fed an array at a time.

TFMA 0.52 takes every example apart into Python dicts and hands it to every metric on its own: for
10,000 images, two models and the metrics of `tfma_config` that is a minute. Here an extract is an
array of images that lie in the same slices, and the sums that TFMA's combiners keep are taken with
numpy. Only `add_input` differs; slicing, merging, everything derived from the sums (averages, AUC,
differences, thresholds, plots) and all that is written stays TFMA's code. A test holds the result
against TFMA's own metrics, asked image by image with the SavedModels loaded by TFMA.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow_model_analysis.contrib.aggregates import binary_confusion_matrices as aggregates
from tensorflow_model_analysis.metrics import (
    binary_confusion_matrices,
    calibration_histogram,
    example_count,
    metric_specs,
    multi_class_confusion_matrix_metrics,
    tf_metric_wrapper,
)

Floats = npt.NDArray[np.float64]


def _answers(element: Any, model: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The labels int64[n] and one model's probabilities float32[n, K] of a batch."""
    return element.labels, element.predictions[model] if model else element.predictions


def _one_vs_rest(combiner: Any, element: Any) -> tuple[npt.NDArray[np.bool_], Floats]:
    """A batch as a binary problem: one class's, or with a micro average all classes' in a row."""
    labels, predictions = _answers(element, combiner._key.model_name)
    sub_key = combiner._key.sub_key
    if sub_key is None:
        truth = labels[:, None] == np.arange(predictions.shape[1])
        return truth.ravel(), predictions.ravel().astype(np.float64)
    return labels == sub_key.class_id, predictions[:, sub_key.class_id].astype(np.float64)


class ExampleCount(example_count._ExampleCountCombiner):
    """Counts a batch at once."""

    def add_input(self, accumulator: float, element: Any) -> float:
        """Adds the batch's size."""
        return accumulator + len(element.labels)


class KerasMetrics(tf_metric_wrapper._CompilableMetricsCombiner):
    """Keeps batches and hands them to the Keras metrics as one."""

    def add_input(self, accumulator: Any, element: Any) -> Any:
        """Keeps the batch until the accumulator is emptied."""
        labels, predictions = _answers(element, self._model_name)
        accumulator.add_input(0, labels[:, None], predictions, np.ones(len(labels), np.float32))
        if accumulator.should_flush():
            self._process_batch(accumulator)
        return accumulator

    def _process_batch(self, accumulator: Any) -> None:
        # TFMA's own version stacks inputs, which must then be equally long.
        kept = accumulator._inputs[0]
        if kept[0]:
            joined = [np.concatenate(part) for part in kept]
            for index, metric in enumerate(self._metrics[self._output_names[0]]):
                metric.reset_states()
                metric.update_state(*joined)
                accumulator.add_weights(0, index, metric.get_weights())
            accumulator.clear_inputs()


class Histogram(calibration_histogram._CalibrationHistogramCombiner):
    """Sums labels, predictions and images per bucket of the prediction."""

    def add_input(self, accumulator: dict[int, Any], element: Any) -> dict[int, Any]:
        """Adds the batch's sums to its buckets."""
        truth, predictions = _one_vs_rest(self, element)
        last = self._num_buckets + 1
        position = (predictions - self._left) / self._range * self._num_buckets + 1
        indices = np.clip(position, 0, last).astype(np.int64)
        images = np.bincount(indices, minlength=last + 1)
        sums = np.bincount(indices, weights=predictions, minlength=last + 1)
        positives = np.bincount(indices, weights=truth, minlength=last + 1)
        for i in np.flatnonzero(images).tolist():
            added = calibration_histogram.Bucket(
                i, float(positives[i]), float(sums[i]), float(images[i])
            )
            if i in accumulator:
                accumulator[i].merge(added)
            else:
                accumulator[i] = added
        return accumulator


class BinaryMatrix(binary_confusion_matrices._BinaryConfusionMatrixCombiner):
    """Counts true and false positives and negatives per threshold."""

    def add_input(self, accumulator: dict[float, Any], element: Any) -> dict[float, Any]:
        """Adds the batch's counts."""
        truth, predictions = _one_vs_rest(self, element)
        counter = self._binary_confusion_matrices
        for threshold in counter._thresholds:
            above = predictions > threshold
            matrix = aggregates.Matrix(
                tp=float((above & truth).sum()),
                tn=float((~above & ~truth).sum()),
                fp=float((above & ~truth).sum()),
                fn=float((~above & truth).sum()),
            )
            entry = aggregates._ThresholdEntry(matrix, [], [], [], [])
            accumulator[threshold] = counter._merge_entry(accumulator, threshold, entry)
        return accumulator


class ConfusionMatrix(multi_class_confusion_matrix_metrics._MultiClassConfusionMatrixCombiner):
    """Counts pairs of true and most probable class per threshold."""

    def add_input(self, accumulator: Any, element: Any) -> Any:
        """Adds the batch's counts."""
        labels, predictions = _answers(element, self._key.model_name)
        top = predictions.argmax(axis=1)
        probability = predictions.max(axis=1)
        for threshold in self._thresholds:
            answered = np.where(probability > threshold, top, -1)
            pairs, counts = np.unique(np.stack([labels, answered]), axis=1, return_counts=True)
            entries = accumulator.setdefault(threshold, {})
            for actual, predicted, images in zip(*pairs.tolist(), counts.tolist(), strict=True):
                key = multi_class_confusion_matrix_metrics.MatrixEntryKey(actual, predicted)
                entries[key] = entries.get(key, 0.0) + images
        return accumulator


_BATCHED = {
    kind.__bases__[0]: kind
    for kind in (ExampleCount, KerasMetrics, Histogram, BinaryMatrix, ConfusionMatrix)
}


@contextmanager
def batched() -> Iterator[None]:
    """While it is open, TFMA builds its graphs with combiners that take batches.

    Raises:
        NotImplementedError: a metric needs a combiner that has no version for batches.
    """
    original = metric_specs.to_computations

    def to_computations(*args: Any, **options: Any) -> list[Any]:
        return [_with_batches(computation) for computation in original(*args, **options)]

    metric_specs.to_computations = to_computations
    try:
        yield
    finally:
        metric_specs.to_computations = original


def _with_batches(computation: Any) -> Any:
    if not hasattr(computation, "combiner"):
        return computation
    kind = _BATCHED.get(type(computation.combiner))
    if kind is None:
        raise NotImplementedError(
            f"no combiner for batches in place of TFMA's {type(computation.combiner).__name__}"
        )
    combiner = copy.copy(computation.combiner)
    combiner.__class__ = kind
    return computation._replace(combiner=combiner)
