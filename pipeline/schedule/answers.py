"""The live model's answers to images without labels, beside those of its evaluation."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.label_validator.accuracy_estimate import (
    LEAST,
    AccuracyEstimate,
    estimate_accuracy,
)
from bnpipe.components.label_validator.answer_drift import (
    AnswerDrift,
    answer_drift,
    spread,
)
from bnpipe.components.network.calibration import Fit
from bnpipe.data.errors import DataError
from bnpipe.data.plain_file import open_plain, read_plain
from bnpipe.pipeline.champion import evaluation_behind
from bnpipe.pipeline.engine.errors import one_line
from bnpipe.pipeline.engine.store import Store
from bnpipe.serving.client.restored import probabilities
from bnpipe.serving.folder import versions

_CANDIDATE = "probabilities/candidate"  # of `predictions.npz`: what has since become the version


@dataclass(frozen=True)
class Look:
    """A model's answers to some images.

    Attributes:
        images: how many were asked for.
        drift: against its answers in the evaluation.
        estimate: how many are right; None where there are too few.
    """

    images: int
    drift: AnswerDrift
    estimate: AccuracyEstimate | None

    @property
    def sentence(self) -> str:
        """What an estimate says of the version, for people."""
        estimate, drift = self.estimate, self.drift
        if estimate is None:
            return f"has answered only {self.images:,} logged requests"
        return (
            f"is estimated at {estimate.accuracy:.3f} ({estimate.low:.3f} to {estimate.high:.3f}) "
            f"on {self.images:,} logged requests, "
            + (
                f"but drift may make it far too high: {drift.sentence}"
                if drift.drifted
                else "no drift"
            )
        )


class LiveAnswers:
    """Asks a served version.

    Args:
        store: of the home.
        served: the served folder.
        version: the version.
        classes: how many it tells apart, K.
    """

    def __init__(self, store: Store, served: Path, version: int, classes: int) -> None:
        self._store = store
        self._served = served
        self._version = version
        self._classes = classes

    def look(self, images: npt.NDArray[np.uint8]) -> Look | None:
        """The answers to images uint8[n, H, W]; None when those of the evaluation are not here.

        Raises:
            ServingError: the version does not answer.
            DataError: the answers of the evaluation cannot be read.
        """
        if self._reference is None or not len(images):
            return None
        images = images[spread(len(images))]
        expected, labels = self._reference
        path = versions.version_path(self._served, self._version)
        received = probabilities(path, images, self._classes)
        broken = int((~np.isfinite(received).all(axis=1)).sum())
        if broken:  # no drift could be worse, and nothing is to be computed with it
            sentence = f"v{self._version} answers {broken} of {len(images)} images with no number"
            return Look(len(images), AnswerDrift(0.0, True, sentence), None)
        estimate = None
        if len(images) >= LEAST:
            estimate = estimate_accuracy(expected, labels, received, *self._fit)
        return Look(len(images), answer_drift(expected, received), estimate)

    @cached_property
    def _reference(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
        """Answers float32[N, K] and labels int64[N] of the evaluated split."""
        folder = evaluation_behind(self._store, self._served, self._version)
        if folder is None:
            return None
        path = folder / "predictions.npz"
        try:
            with open_plain(path) as file, np.load(file, allow_pickle=False) as stored:
                answers, labels = stored[_CANDIDATE], stored["label"]
                rows = len(answers)
                if not rows or answers.shape != (rows, self._classes) or labels.shape != (rows,):
                    shapes = f"{answers.shape} and {labels.shape}"
                    raise ValueError(f"expected [N, {self._classes}] and [N], received {shapes}")
                if not np.isfinite(answers).all():
                    raise ValueError("expected finite numbers")
                return answers, labels
        except FileNotFoundError:  # collected
            return None
        except Exception as error:  # the boundary to a file: numpy and zipfile raise of all kinds
            raise DataError(f"{path} cannot be read: {one_line(error)}") from error

    @cached_property
    def _fit(self) -> Fit:
        """What the served logits are still to be divided by."""
        temperature, error = 1.0, 0.0
        # What is off without a card, is so on the evaluated split too, and is made up for.
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            digest = versions.provenance_of(self._served, self._version)["inputs"]["model"]
            card: Any = json.loads(read_plain(self._store.object_path(digest) / "model_card.json"))
            metrics = card["metrics"]
            fitted = float(metrics.get("temperature") or 1.0)
            deviation = float(metrics.get("temperature_error") or 0.0)  # cards once had none
            # Nothing is wider than what is fitted, nor than its prior by much; NaN is neither.
            error = deviation if 0 <= deviation < 3 else 0.0
            if 0.01 < fitted < 100 and not card["params"].get("calibrated", False):
                temperature = fitted
        return Fit(temperature, error)
