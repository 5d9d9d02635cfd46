"""The candidate's answers to a few requests per signature, for the infra validator to compare."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.components.network.saved_model import load
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.preprocessing import unscale
from bnpipe.serving.export.golden import Arrays, Golden
from bnpipe.serving.export.signatures import SIGNATURES


def write(
    saved_model: Path | None, features: npt.NDArray[np.float32], info: DatasetInfo, path: Path
) -> None:
    """Asks every known signature of a SavedModel and writes requests and answers.

    Args:
        saved_model: the candidate; None when it cannot be used, then the file holds nothing.
        features: float32[N, D] in [0, 1], the images to ask for.
        info: the data set, for the images' shape.
        path: where to write `golden.npz`.
    """
    served = load(str(saved_model)).signatures if saved_model else {}
    pixels = unscale(features).reshape(-1, info.height, info.width)
    requests = {name: s.request(pixels) for name, s in SIGNATURES.items() if name in served}
    answers: dict[str, Arrays] = {}
    for name, request in requests.items():
        answer = served[name](**{key: tf.constant(value) for key, value in request.items()})
        answers[name] = {key: tensor.numpy() for key, tensor in answer.items()}
    Golden(requests, answers).write(path)
