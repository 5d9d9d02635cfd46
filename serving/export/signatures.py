"""The five signatures that every exported model has: one table of what they take and give.

Light: standard library and numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.png import encode_stored
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.data.records.examples import encode

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

DEFAULT, CLASSIFY = "serving_default", "classify"
"""The signature that a server runs when none is named, and that of its Classify interface."""


@dataclass(frozen=True)
class Tensor:
    """An input or output; its first dimension is the batch.

    Attributes:
        dtype: the type as TensorFlow names it, e.g. `float32`; `string` holds bytes.
        sizes: the other dimensions: `D` features, `H` x `W` pixels, `K` classes.
    """

    dtype: str
    sizes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Signature:
    """A way of asking a model.

    Attributes:
        inputs: the one input, by its name.
        outputs: by name.
        from_pixels: uint8[N, H, W] -> the input's values for these images.
    """

    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    from_pixels: Callable[[Pixels], Array]

    def request(self, pixels: Pixels) -> dict[str, Array]:
        """The input by its name, for images uint8[N, H, W]."""
        (name,) = self.inputs
        return {name: self.from_pixels(pixels)}


def as_strings(values: Sequence[bytes]) -> Array:
    """Bytes as TensorFlow takes them: object[N], for numpy's own strings lose trailing zeros."""
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array


def _pngs(pixels: Pixels) -> Array:
    return as_strings([encode_stored(image) for image in pixels])


def _examples(pixels: Pixels) -> Array:
    records = encode({"features": flatten_and_scale(pixels)})
    return as_strings([record.tobytes() for record in records])


_FEATURES = {"features": Tensor("float32", ("D",))}
_PROBABILITIES = {"probabilities": Tensor("float32", ("K",))}
_ANSWER = {**_PROBABILITIES, "class_id": Tensor("int64")}

SIGNATURES: Mapping[str, Signature] = {
    DEFAULT: Signature(_FEATURES, _ANSWER, flatten_and_scale),
    "serve_images": Signature({"images": Tensor("uint8", ("H", "W"))}, _ANSWER, lambda x: x),
    "serve_png": Signature({"image_bytes": Tensor("string")}, _ANSWER, _pngs),
    CLASSIFY: Signature(
        {"inputs": Tensor("string")},
        {"classes": Tensor("string", ("K",)), "scores": Tensor("float32", ("K",))},
        _examples,
    ),
    "probabilities_only": Signature(_FEATURES, _PROBABILITIES, flatten_and_scale),
}
"""By name; the exported graph numbers its functions in this order."""
