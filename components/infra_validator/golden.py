"""The evaluator's requests and the answers that it got: `golden.npz`."""

from __future__ import annotations

import base64
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.artifacts import Evaluation
from bnpipe.serving.errors import ServingError

Arrays = dict[str, npt.NDArray[Any]]
_FILE = "golden.npz"
_BASE64 = ".b64"


@dataclass(frozen=True)
class Golden:
    """Requests and answers by signature, each an array per input or output.

    Attributes:
        requests: what to send; the first dimension is the batch.
        answers: what the evaluator was answered.
    """

    requests: dict[str, Arrays]
    answers: dict[str, Arrays]

    @property
    def rows(self) -> int:
        """How many rows every request has."""
        first = next(iter(self.requests.values()))
        return len(next(iter(first.values())))


def read(evaluation: Evaluation, signatures: tuple[str, ...]) -> Golden:
    """The golden requests of an evaluation.

    Raises:
        ServingError: they cannot be read, or there are none for one of the signatures.
    """
    sides: dict[str, dict[str, Arrays]] = {"request": {}, "answer": {}}
    try:
        with np.load(evaluation.path / _FILE, allow_pickle=False) as stored:
            for key in stored.files:
                signature, side, name = key.split("/")
                value = stored[key]
                if name.endswith(_BASE64):
                    name, value = name.removesuffix(_BASE64), _decoded(value)
                sides[side].setdefault(signature, {})[name] = value
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ServingError(
            f"{evaluation.producer}: cannot read {_FILE}: {error}", hint=_AGAIN
        ) from error
    for signature in signatures:
        if signature not in sides["request"] or signature not in sides["answer"]:
            raise ServingError(
                f"{evaluation.producer}: {_FILE} has no request for {signature}", hint=_AGAIN
            )
    return Golden(sides["request"], sides["answer"])


_AGAIN = "evaluate again: bnpipe run --force evaluator"


def _decoded(texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = np.empty(texts.size, np.object_)
    values[:] = [base64.b64decode(text) for text in texts.ravel()]
    return values.reshape(texts.shape)
