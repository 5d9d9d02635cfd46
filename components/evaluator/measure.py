"""`metrics.json`: every model's accuracy, loss and calibration on the split, with intervals.

Accuracies carry exact intervals; everything else comes from one bootstrap that draws the same
images for every model. TFMA computes the same point values by its own code, and a test holds the
two against one another.
"""

from __future__ import annotations

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
    """Precision, recall and F1 of every class, float64[..., K].

    A class that is never predicted has precision 0, one without images recall 0, as in
    scikit-learn.

    Args:
        matrix: confusion matrices, [..., K, K] of counts.
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
        rng, n = np.random.default_rng(params.seed), predictions.labels.size
        columns = self._columns(slice(0))
        resampled = statistics.weighted_sums(
            lambda rows: np.concatenate([*self._columns(rows).values()], axis=1),
            *(n, params.resamples, rng),
        )
        ends = np.cumsum([part.shape[1] for part in columns.values()])[:-1]
        self._sums = dict(zip(columns, np.split(resampled, ends, axis=1), strict=True))
        self._points = {key: part.sum(axis=0) for key, part in columns.items()}
        for block in statistics.row_blocks(n):
            for key, part in self._columns(block).items():
                self._points[key] += part.sum(axis=0)

    def _columns(self, rows: slice) -> dict[tuple[str, str], FloatArray]:
        """The columns whose sums over images give every bootstrapped statistic, by model."""
        part = self.predictions.rows(rows)
        columns: dict[tuple[str, str], FloatArray] = {}
        for model, probabilities in part.probabilities.items():
            confidence = probabilities.max(axis=1).astype(np.float64)
            classes = probabilities.shape[1]
            guess = np.eye(classes)[probabilities.argmax(axis=1)]
            truth = np.eye(classes)[part.labels]
            columns |= {
                (model, "loss"): losses(part, model)[:, None],
                (model, "gaps"): statistics.bin_gaps(confidence, part.correct(model)),
                (model, "hits"): guess * truth,
                (model, "guesses"): guess,
                (model, "truths"): truth,
            }
        return columns

    def calibration_error(self, model: str) -> tuple[float, FloatArray]:
        """Expected calibration error of the top class: the value, its resamples float64[R]."""
        n, gaps = self.predictions.labels.size, (model, "gaps")
        resampled = np.abs(self._sums[gaps]).sum(axis=1) / n
        return float(np.abs(self._points[gaps]).sum() / n), resampled

    def loss(self, model: str) -> tuple[float, FloatArray]:
        """Mean cross-entropy in nats: the value, and its resamples float64[R]."""
        n = self.predictions.labels.size
        return float(self._points[model, "loss"][0] / n), self._sums[model, "loss"][:, 0] / n

    def macro_f1(self, model: str) -> tuple[float, FloatArray]:
        """Mean F1 over the classes that occur or are named: the value, its resamples float64[R].

        F1 = 2 * hits / (guesses + truths), which equals the harmonic mean of precision and recall.
        """
        point, resampled = (
            2 * sums[model, "hits"] / np.maximum(sums[model, "guesses"] + sums[model, "truths"], 1)
            for sums in (self._points, self._sums)
        )
        points = self._points
        occurring = points[model, "guesses"] + points[model, "truths"] > 0
        return float(point[occurring].mean()), resampled[..., occurring].mean(axis=-1)

    def interval(self, resampled: FloatArray) -> list[float] | None:
        """The reported two-sided interval of a resampled statistic, float64[R].

        None when all resamples are equal, as when every image is right: that shows how few images
        there are, not how exactly the value is known.
        """
        if np.ptp(resampled) == 0:
            return None
        interval = statistics.percentile_interval(resampled, self.params.confidence)
        return [float(end) for end in interval]

    def model(self, name: str) -> Json:
        """Everything about one model on the whole split."""
        p = self.predictions.probabilities[name]
        labels = self.predictions.labels
        correct = self.predictions.correct(name)
        matrix = confusion_matrix(self.predictions, name)
        shares = per_class(matrix)
        top_2 = (np.argsort(-p, axis=1, kind="stable")[:, :2] == labels[:, None]).any(axis=1)
        truth = np.eye(p.shape[1])[labels]
        metrics: Json = {
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
            metrics[key] = value
            metrics[f"{key}_interval"] = self.interval(resampled)
        areas = [statistics.area_under_roc(p[:, k], labels == k) for k in range(p.shape[1])]
        occurring = matrix.any(axis=0) | matrix.any(axis=1)
        metrics["macro_precision"] = float(shares["precision"][occurring].mean())
        metrics["macro_recall"] = float(shares["recall"][occurring].mean())
        metrics["macro_auc"] = float(np.mean([a for a in areas if not np.isnan(a)] or np.nan))
        metrics["classes"] = [
            {key: float(values[k]) for key, values in shares.items()} | {"auc": areas[k]}
            for k in range(p.shape[1])
        ]
        return metrics

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
    (b, c), n = part.against[reference], part.images
    rng = np.random.default_rng(params.seed)
    resampled = statistics.paired_bootstrap(b, c, n, params.resamples, rng)
    interval = paired.difference_interval(b, c, n, params.confidence, resampled)
    return {
        "difference": part.difference(reference),
        "interval": [float(end) for end in interval],
        "lower_bound": rules_reference.lower_bound(part, reference, params),
        "only_candidate": b,
        "only_reference": c,
        "p_worse": float(statistics.mcnemar_worse(b, c)),
        "p_worse_than_margin": paired.worse_than_margin(b, c, n, params.slice_margin),
        "p_better": float(statistics.mcnemar_worse(c, b)),
        "better": rules_reference.is_better(part.against[reference], params),
    }


def slice_metrics(
    predictions: Predictions,
    slices: Sequence[Slice],
    counted: Sequence[SliceEvidence],
    params: Params,
) -> Json:
    """Accuracy and loss of every model on every slice, and the differences, by slice name."""
    metrics: Json = {}
    model_losses = {name: losses(predictions, name) for name in predictions.probabilities}
    right = {name: predictions.correct(name) for name in predictions.probabilities}
    for part, counts in zip(slices, counted, strict=True):
        metrics[part.name] = {
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
    return metrics


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _proportion(successes: int, trials: int, confidence: float) -> list[float]:
    return [float(end) for end in statistics.clopper_pearson(successes, trials, confidence)]
