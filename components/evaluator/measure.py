"""`metrics.json`: what the models are worth on the evaluated split, with intervals.

Accuracies carry exact intervals; everything else comes from one bootstrap that draws the same
images for every model. TFMA computes the same point values by its own code, and a test holds the
two against one another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.evaluator import paired, rules_reference, statistics
from bnpipe.components.evaluator.evidence import SliceEvidence
from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.predictions import Predictions, Slice
from bnpipe.components.evaluator.statistics import FloatArray

Json = dict[str, Any]

_LEAST_PROBABILITY = 1e-7
"""Keras clips probabilities here before it takes the logarithm."""


def losses(predictions: Predictions, model: str) -> FloatArray:
    """float64[N]: the cross-entropy of each image, in nats."""
    p = predictions.probabilities[model].astype(np.float64)
    of_label = np.take_along_axis(p, predictions.labels[:, None], axis=1)[:, 0]
    of_label = np.clip(of_label / p.sum(axis=1), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.asarray(-np.log(of_label))


def confusion_matrix(predictions: Predictions, model: str) -> npt.NDArray[np.int64]:
    """int64[K, K]: images by true class (row) and most probable class (column)."""
    k = predictions.probabilities[model].shape[1]
    cells = predictions.labels * k + predictions.probabilities[model].argmax(axis=1)
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def per_class(matrix: npt.NDArray[Any]) -> Mapping[str, FloatArray]:
    """Precision, recall and F1 of every class, from confusion matrices [..., K, K].

    A class that is never predicted has precision 0, one without images recall 0, as in
    scikit-learn.
    """
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    precision = hits / np.maximum(matrix.sum(axis=-2), 1)
    recall = hits / np.maximum(matrix.sum(axis=-1), 1)
    total = precision + recall
    f1 = 2 * precision * recall / np.where(total > 0, total, 1)
    return {"precision": precision, "recall": recall, "f1": f1}


class Measurement:
    """One evaluation: point values and their shared bootstrap.

    Args:
        predictions: the answers of all usable models; the candidate is among them.
        params: confidence, resamples and seed.
    """

    def __init__(self, predictions: Predictions, params: Params) -> None:
        self.predictions = predictions
        self.params = params
        self._names = tuple(predictions.probabilities)
        self._columns: dict[tuple[str, str], slice] = {}
        parts: list[FloatArray] = []
        width = 0
        for name in self._names:
            for kind, values in self._statistics(name).items():
                self._columns[name, kind] = slice(width, width + values.shape[1])
                width += values.shape[1]
                parts.append(values)
        self._values = np.concatenate(parts, axis=1)
        rng = np.random.default_rng(params.seed)
        self._resampled = statistics.weighted_sums(self._values, params.resamples, rng)

    def _statistics(self, model: str) -> dict[str, FloatArray]:
        """The columns whose sums over images give every bootstrapped statistic of a model."""
        probabilities = self.predictions.probabilities[model]
        confidence = probabilities.max(axis=1).astype(np.float64)
        classes = probabilities.shape[1]
        guess = np.eye(classes)[probabilities.argmax(axis=1)]
        truth = np.eye(classes)[self.predictions.labels]
        return {
            "loss": losses(self.predictions, model)[:, None],
            "gaps": statistics.bin_gaps(confidence, self.predictions.correct(model)),
            "hits": guess * truth,
            "guesses": guess,
            "truths": truth,
        }

    def _sums(self, model: str, kind: str) -> tuple[FloatArray, FloatArray]:
        columns = self._columns[model, kind]
        return self._values[:, columns].sum(axis=0), self._resampled[:, columns]

    def calibration_error(self, model: str) -> tuple[float, FloatArray]:
        """Expected calibration error of the most probable class: the value and its resamples."""
        n = self._values.shape[0]
        point, resampled = self._sums(model, "gaps")
        return float(np.abs(point).sum() / n), np.abs(resampled).sum(axis=1) / n

    def loss(self, model: str) -> tuple[float, FloatArray]:
        """Mean cross-entropy: the value and its resamples."""
        n = self._values.shape[0]
        point, resampled = self._sums(model, "loss")
        return float(point[0] / n), resampled[:, 0] / n

    def macro_f1(self, model: str) -> tuple[float, FloatArray]:
        """Mean F1 over the classes: the value and its resamples.

        F1 = 2 * hits / (guesses + truths), which equals the harmonic mean of precision and recall.
        """
        sums = [self._sums(model, kind) for kind in ("hits", "guesses", "truths")]
        point, resampled = (
            (2 * hits / np.maximum(guesses + truths, 1)).mean(axis=-1)
            for hits, guesses, truths in zip(*sums, strict=True)
        )
        return float(point), resampled

    def interval(self, resampled: FloatArray) -> list[float] | None:
        """The reported two-sided interval of a resampled statistic.

        None when all resamples are equal, as when every image is right: that shows how few images
        there are, not how exactly the value is known.
        """
        if np.ptp(resampled) == 0:
            return None
        low, high = statistics.percentile_interval(resampled, self.params.confidence)
        return [float(low), float(high)]

    def model(self, name: str) -> Json:
        """Everything about one model on the whole split."""
        p = self.predictions.probabilities[name]
        labels = self.predictions.labels
        correct = self.predictions.correct(name)
        matrix = confusion_matrix(self.predictions, name)
        shares = per_class(matrix)
        top_2 = (np.argsort(-p, axis=1, kind="stable")[:, :2] == labels[:, None]).any(axis=1)
        truth = np.eye(p.shape[1])[labels]
        told: Json = {
            "accuracy": float(correct.mean()),
            "accuracy_interval": _proportion(
                int(correct.sum()), correct.size, self.params.confidence
            ),
            "top_2_accuracy": float(top_2.mean()),
            "brier_score": float(((p - truth) ** 2).sum(axis=1).mean()),
            "confusion_matrix": matrix.tolist(),
            "reliability": self._reliability(name),
        }
        for key, (value, resampled) in (
            ("loss", self.loss(name)),
            ("macro_f1", self.macro_f1(name)),
            ("calibration_error", self.calibration_error(name)),
        ):
            told[key] = value
            told[f"{key}_interval"] = self.interval(resampled)
        areas = [statistics.area_under_roc(p[:, k], labels == k) for k in range(p.shape[1])]
        told["macro_precision"] = float(shares["precision"].mean())
        told["macro_recall"] = float(shares["recall"].mean())
        told["macro_auc"] = float(np.mean(areas))
        told["classes"] = [
            {key: float(values[k]) for key, values in shares.items()} | {"auc": areas[k]}
            for k in range(p.shape[1])
        ]
        return told

    def _reliability(self, model: str) -> list[Json]:
        """The reliability diagram: images, mean confidence and accuracy of every filled bin."""
        confidence = self.predictions.probabilities[model].max(axis=1).astype(np.float64)
        correct = self.predictions.correct(model)
        bins = statistics.calibration_bins(confidence)
        return [
            {
                "bin": int(b),
                "images": int((bins == b).sum()),
                "confidence": float(confidence[bins == b].mean()),
                "accuracy": float(correct[bins == b].mean()),
            }
            for b in np.unique(bins)
        ]


def comparison(part: SliceEvidence, reference: str, params: Params) -> Json:
    """Candidate against a reference on one slice: difference, interval and tests."""
    pair = part.against[reference]
    b, c, n = pair.only_candidate, pair.only_reference, part.images
    rng = np.random.default_rng(params.seed)
    resampled = statistics.paired_bootstrap(b, c, n, params.resamples, rng)
    low, high = paired.difference_interval(b, c, n, params.confidence, resampled)
    return {
        "difference": part.difference(reference),
        "interval": [float(low), float(high)],
        "lower_bound": rules_reference.lower_bound(part, reference, params),
        "only_candidate": b,
        "only_reference": c,
        "p_worse": float(statistics.mcnemar_worse(b, c)),
        "p_worse_than_margin": paired.worse_than_margin(b, c, n, params.slice_margin),
        "p_better": float(statistics.mcnemar_worse(c, b)),
        "better": rules_reference.is_better(pair, params),
    }


def overall_comparison(overall: SliceEvidence, reference: str, params: Params) -> Json:
    """Candidate against a reference on the whole split: also what loss it could have shown."""
    return comparison(overall, reference, params) | {
        "smallest_detectable_loss": rules_reference.detectable_loss(overall, reference, params),
    }


def slice_metrics(
    predictions: Predictions,
    slices: Sequence[Slice],
    counted: Sequence[SliceEvidence],
    params: Params,
) -> Json:
    """Accuracy and loss of every model on every slice, and the differences, by slice name."""
    told: Json = {}
    model_losses = {name: losses(predictions, name) for name in predictions.probabilities}
    right = {name: predictions.correct(name) for name in predictions.probabilities}
    for part, counts in zip(slices, counted, strict=True):
        told[part.name] = {
            "columns": list(part.columns),
            "images": counts.images,
            "models": {
                name: {
                    "accuracy": _mean(right[name][part.rows]),
                    "accuracy_interval": _proportion(
                        int(right[name][part.rows].sum()), counts.images, params.confidence
                    ),
                    "loss": _mean(model_losses[name][part.rows]),
                }
                for name in predictions.probabilities
            },
            "against": {
                name: comparison(counts, name, params) for name in counts.against if counts.images
            },
        }
    return told


def plain(value: Any) -> Any:
    """The same tree with null for numbers that JSON cannot say (NaN and infinities)."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _proportion(successes: int, trials: int, confidence: float) -> list[float]:
    low, high = statistics.clopper_pearson(successes, trials, confidence)
    return [float(low), float(high)]
