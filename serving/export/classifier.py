"""Exports a network as a SavedModel with the five signatures of `export.signatures`.

The export is a plain tf.Module with named variables and traced signatures. Keras' own export gives
other bytes in every process, keys that change from training to training, and outputs without names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.serving.export import warmup
from bnpipe.serving.export.canonical import make_canonical
from bnpipe.serving.export.folding import BatchNormalization, Dense, Layer, LayerNormalization, Relu
from bnpipe.serving.export.signatures import SIGNATURES

NO_CLASS = np.int64(-1)
PNG_BYTES_PER_PIXEL = 4
PNG_SPARE_BYTES = 64 * 1024


class Classifier(tf.Module):
    """The network in inference mode.

    Args:
        layers: the network as plain arrays; the last layer gives the logits.
        info: the data set: image size and label names.
    """

    def __init__(self, layers: Sequence[Layer], info: DatasetInfo) -> None:
        super().__init__(name="classifier")
        self._info = info
        self._layers = layers
        for layer in layers:
            for name, value in vars(layer).items():
                if isinstance(value, np.ndarray):
                    key = f"{layer.name}_{name}"
                    variable = tf.Variable(value.astype(np.float32), trainable=False, name=key)
                    setattr(self, key, variable)

    def probabilities(self, features: tf.Tensor) -> tf.Tensor:
        """The softmax of the last layer: float32[N, D] in [0, 1] -> float32[N, K] in [0, 1]."""
        x = features
        for layer in self._layers:
            x = self._apply(layer, x)
        return tf.nn.softmax(x)

    def checked_probabilities(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same, and bool[N, 1]: a row with a feature that is not finite is False, and all NaN.

        A relu turns NaN into 0, so they would be answered as if nothing were wrong. An error would
        also hit the requests that a server has put into the same batch.
        """
        valid = tf.reduce_all(tf.math.is_finite(features), axis=1, keepdims=True)
        return tf.where(valid, self.probabilities(features), np.nan), valid

    def _apply(self, layer: Layer, x: tf.Tensor) -> tf.Tensor:
        def array(name: str) -> tf.Variable:
            return getattr(self, f"{layer.name}_{name}")

        match layer:
            case Dense():
                return tf.nn.bias_add(tf.matmul(x, array("kernel")), array("bias"))
            case Relu():
                return tf.nn.relu(x)
            case BatchNormalization():
                mean, variance = array("mean"), array("variance")
            case LayerNormalization():
                mean, variance = tf.nn.moments(x, axes=[1], keepdims=True)
        factor = tf.math.rsqrt(variance + layer.epsilon) * array("gamma")
        return (x - mean) * factor + array("beta")

    def serving_default(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features float32[N, D] -> probabilities float32[N, K] and class_id int64[N].

        The class is the most probable one, -1 where there is none.
        """
        probabilities, valid = self.checked_probabilities(features)
        class_id = tf.where(tf.squeeze(valid, 1), tf.argmax(probabilities, axis=1), NO_CLASS)
        return {"probabilities": probabilities, "class_id": class_id}

    def probabilities_only(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features float32[N, D] -> probabilities float32[N, K], which REST does not wrap."""
        return {"probabilities": self.checked_probabilities(features)[0]}

    def serve_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Pixels uint8[N, H, W] -> as `serving_default`."""
        probabilities = self.probabilities(flatten_and_scale(images))
        return {"probabilities": probabilities, "class_id": tf.argmax(probabilities, axis=1)}

    def serve_png(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """PNG files string[N] -> as `serving_default`."""
        shape = (self._info.height, self._info.width)
        with tf.control_dependencies(_png_checks(image_bytes, *shape)):
            image_bytes = tf.identity(image_bytes)
        images = tf.map_fn(
            lambda png: tf.ensure_shape(tf.io.decode_png(png, channels=1), (*shape, 1)),
            image_bytes,
            fn_output_signature=tf.TensorSpec((*shape, 1), tf.uint8),
        )
        return self.serve_images(images[..., 0])

    def classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Serialized tf.Examples string[N] with `features` -> labels string[N, K] and scores.

        The scores are the labels' probabilities, float32[N, K].
        """
        feature = tf.io.FixedLenFeature([self._info.features], tf.float32)
        features = tf.io.parse_example(inputs, {"features": feature})["features"]
        scores, _ = self.checked_probabilities(features)
        labels = tf.constant([self._info.label_names])
        return {"classes": tf.tile(labels, [tf.shape(scores)[0], 1]), "scores": scores}

    def signature(self, name: str) -> Any:
        """One of `SIGNATURES`, traced."""
        info = self._info
        sizes = {"D": info.features, "H": info.height, "W": info.width}
        ((key, tensor),) = SIGNATURES[name].inputs.items()
        shape = [None, *(sizes[letter] for letter in tensor.sizes)]
        function = tf.function(getattr(self, name), autograph=False)
        return function.get_concrete_function(tf.TensorSpec(shape, tensor.dtype, key))


def export(folder: Path, layers: Sequence[Layer], info: DatasetInfo) -> dict[str, Any]:
    """Writes the network as a SavedModel: the same bytes for the same network.

    Args:
        folder: the SavedModel folder.
        layers: the network as plain arrays, from `features` to the logits.
        info: the data set.

    Returns:
        The signatures by name, as they were saved.
    """
    classifier = Classifier(layers, info)
    signatures = {name: classifier.signature(name) for name in SIGNATURES}
    tf.saved_model.save(classifier, str(folder), signatures=signatures)
    make_canonical(folder)
    warmup.write(folder, info)
    return signatures


def _png_checks(image_bytes: tf.Tensor, height: int, width: int) -> list[tf.Operation]:
    """Assertions that hold for 8-bit grayscale PNG files of one size, from their first bytes alone.

    A decoder allocates what the header asks for, so the header is looked at before it runs.
    https://www.w3.org/TR/png-3/#11IHDR
    """
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    # Signature, length and type of the first chunk, size; depth 8, gray, deflate, filter 0.
    header = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + size + b"\x08\x00\x00\x00"
    limit = PNG_SPARE_BYTES + PNG_BYTES_PER_PIXEL * height * width
    small = tf.reduce_all(tf.strings.length(image_bytes) <= limit)
    right = tf.reduce_all(tf.equal(tf.strings.substr(image_bytes, 0, len(header)), header))
    wanted = f"image_bytes: expected 8-bit grayscale PNG images, {width} wide and {height} high"
    return [
        tf.debugging.Assert(small, [f"{wanted}; received one of more than {limit} bytes"]),
        tf.debugging.Assert(right, [f"{wanted}; received one with another header"]),
    ]
