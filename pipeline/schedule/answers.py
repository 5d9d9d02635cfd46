"""The live model's answers to images without labels, beside those of its evaluation."""

from __future__ import annotations

import json
import zipfile
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
from bnpipe.data.plain_file import open_plain, read_plain
from bnpipe.pipeline.champion import evaluation_behind
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
    """

    def __init__(self, store: Store, served: Path, version: int) -> None:
        self._store = store
        self._served = served
        self._version = version

    def look(self, images: npt.NDArray[np.uint8]) -> Look | None:
        """The answers to images uint8[n, H, W]; None when those of the evaluation are not here.

        Raises:
            ServingError: the version does not answer.
        """
        if self._reference is None or not len(images):
            return None
        images = images[spread(len(images))]
        expected, labels = self._reference
        path = versions.version_path(self._served, self._version)
        received = probabilities(path, images, expected.shape[1])
        estimate = None
        if len(images) >= LEAST:
            estimate = estimate_accuracy(expected, labels, received, self._temperature)
        return Look(len(images), answer_drift(expected, received), estimate)

    @cached_property
    def _reference(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]] | None:
        """Answers float32[N, K] and labels int64[N] of the evaluated split."""
        folder = evaluation_behind(self._store, self._served, self._version)
        try:
            if folder is None:
                return None
            with (
                open_plain(folder / "predictions.npz") as file,
                np.load(file, allow_pickle=False) as stored,
            ):
                return stored[_CANDIDATE], stored["label"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):  # collected, or of another kind
            return None

    @cached_property
    def _temperature(self) -> float:
        """What the served logits are still to be divided by."""
        digest = versions.provenance_of(self._served, self._version)["inputs"]["model"]
        try:
            card: Any = json.loads(read_plain(self._store.object_path(digest) / "model_card.json"))
            served_so = card["params"].get("calibrated", False)
            return 1.0 if served_so else float(card["metrics"].get("temperature") or 1.0)
        except (OSError, ValueError, KeyError, TypeError):
            return 1.0  # what is off then, is so on the evaluated split too, and is made up for
