"""The images of logged requests, which retraining compares with the training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.png import decode_any
from bnpipe.data.preprocessing import unscale
from bnpipe.data.records.tfrecord import BrokenFramingError, read_runs
from bnpipe.serving.errors import ServingError


def logged_images(folder: Path, height: int, width: int, *, most: int) -> npt.NDArray[np.uint8]:
    """The images of the newest logged requests, of any signature that takes images.

    Args:
        folder: what `RequestLog` wrote, by any number of processes, some of which may go on.
        height: height of an image in pixels.
        width: width of an image in pixels.
        most: how many images at most.

    Returns:
        uint8[N, height * width], the newest request first.

    Raises:
        ServingError: there is no such folder.
    """
    try:
        files = [(p.stat().st_mtime, p) for p in folder.iterdir() if p.suffix == ".tfrecord"]
    except OSError as error:
        raise ServingError(f"cannot read logged requests: {error.strerror}: {folder}") from error
    batches = [np.zeros((0, height * width), np.uint8)]
    for _, path in sorted(files, reverse=True):
        batches += reversed(list(_images(path, height, width)))
        if sum(map(len, batches)) >= most:
            break
    return np.concatenate(batches)[:most]


def _images(path: Path, height: int, width: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The images of one file, request by request; damaged records are left out."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import prediction_log_pb2

    # A process that is writing, or was killed, leaves half a record at the end.
    with suppress(BrokenFramingError):
        for run in read_runs(path):
            for row in np.delete(run.payload, run.damaged, axis=0):
                try:
                    log = prediction_log_pb2.PredictionLog.FromString(row.tobytes())
                    images = _pixels(log.predict_log.request.inputs, height, width)
                except (DecodeError, TypeError, ValueError):
                    continue  # no request, or one that the server refused too
                if images is not None:
                    yield images


def _pixels(inputs: Mapping[str, Any], height: int, width: int) -> npt.NDArray[np.uint8] | None:
    """The images of a request, uint8[N, height * width]; None if it has none of this size."""
    import tensorflow as tf

    arrays = {name: tf.make_ndarray(inputs[name]) for name in inputs}
    if "images" in arrays:
        images = arrays["images"]
    elif "features" in arrays:
        images = unscale(arrays["features"])
    elif "image_bytes" in arrays:
        files = arrays["image_bytes"].reshape(-1)
        images = np.stack([decode_any(bytes(file), height, width) for file in files])
    else:
        return None
    pixels = images.reshape(len(images), -1)
    fits = pixels.dtype == np.uint8 and pixels.shape[1] == height * width
    return pixels if fits else None
