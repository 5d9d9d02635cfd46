"""`golden.npz`: a few requests per signature and the answers that a model gave to them.

Keys are `<signature>/request/<input>` and `<signature>/answer/<output>`. Strings that may hold any
byte (PNG files, serialized tf.Examples) are stored as base64 text under `<key>.b64`, which is also
how TensorFlow Serving's REST interface takes them.
"""

from __future__ import annotations

import base64
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.signatures import SIGNATURES, Array, as_strings

Arrays = dict[str, Array]
_BASE64 = ".b64"
_AGAIN = "evaluate again: bnpipe run --force evaluator"


@dataclass(frozen=True)
class Golden:
    """Requests and answers by signature, each an array per input or output.

    Attributes:
        requests: by signature and input, of any shape and type; the first dimension is the batch.
        answers: by signature and output, likewise.
    """

    requests: dict[str, Arrays]
    answers: dict[str, Arrays]

    @property
    def rows(self) -> int:
        """The number of rows that every request has."""
        first = next(iter(self.requests.values()))
        return len(next(iter(first.values())))

    def write(self, path: Path) -> None:
        """Stores them as one file."""
        arrays: Arrays = {}
        for name, request in self.requests.items():
            for side, values in (("request", request), ("answer", self.answers[name])):
                for key, value in sorted(values.items()):
                    arrays |= _encoded(f"{name}/{side}/{key}", value)
        np.savez(path, **arrays)  # type: ignore[arg-type]

    @classmethod
    def read(cls, path: Path) -> Golden:
        """Reads what `write` stored.

        Raises:
            ServingError: it cannot be read, or a signature of the table is not in it.
        """
        sides: dict[str, dict[str, Arrays]] = {"request": {}, "answer": {}}
        try:
            with np.load(path, allow_pickle=False) as stored:
                for key in stored.files:
                    signature, side, name = key.split("/")
                    value = stored[key]
                    if name.endswith(_BASE64):
                        name, value = name.removesuffix(_BASE64), _decoded(value)
                    sides[side].setdefault(signature, {})[name] = value
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ServingError(f"cannot read {path.name}: {error}", hint=_AGAIN) from error
        for signature in SIGNATURES:
            if any(signature not in known for known in sides.values()):
                raise ServingError(f"{path.name} has no request for {signature}", hint=_AGAIN)
        return cls(sides["request"], sides["answer"])


def _encoded(key: str, value: Array) -> Arrays:
    if value.dtype != object:
        return {key: value}
    # numpy's fixed-length strings lose trailing zero bytes; base64 text has none.
    texts = [base64.b64encode(item) for item in value.ravel()]
    return {f"{key}{_BASE64}": np.array(texts).reshape(value.shape)}


def _decoded(texts: Array) -> Array:
    return as_strings([base64.b64decode(text) for text in texts.ravel()]).reshape(texts.shape)
