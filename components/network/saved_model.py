"""An exported SavedModel: whether it can answer for a data set's images, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from bnpipe.data.dataset_info import DatasetInfo
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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
