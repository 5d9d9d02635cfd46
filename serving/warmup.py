"""Warmup requests: what a version answers before it is available, so that the first user need not.

They are written with the SavedModel, into `assets.extra/tf_serving_warmup_requests`: a TFRecord
file of `PredictionLog`, https://www.tensorflow.org/tfx/serving/saved_model_warmup. Every pixel is
mid-grey: what a network computes takes equally long for any image, and so no version carries
copies of real ones. Heavy: the messages come with TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.png import encode_stored
from bnpipe.data.preprocessing import flatten_and_scale
from bnpipe.data.tfrecord import DamagedRecordError, frame, read_runs

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000
"""A server refuses a version with more."""

BATCH_SIZES = (1, 8, 32)
GREY = 128


def write(folder: Path, info: DatasetInfo) -> None:
    """Adds the warmup requests of every signature to a SavedModel: equal bytes for equal images."""
    file = folder / WARMUP_FILE
    file.parent.mkdir()
    with file.open("wb") as stream:
        for rows in BATCH_SIZES:
            for log in _requests(info, rows):
                record = np.frombuffer(log.SerializeToString(deterministic=True), np.uint8)
                stream.write(frame(record[None]).tobytes())


def read(file: Path) -> Iterator[prediction_log_pb2.PredictionLog]:
    """The requests of a warmup file.

    Raises:
        DamagedRecordError: the file or a record is damaged.
        google.protobuf.message.DecodeError: a record is no `PredictionLog`.
    """
    for run in read_runs(file):
        if len(run.damaged):
            raise DamagedRecordError(f"corrupted record at {run.offset_of(int(run.damaged[0]))}")
        for row in run.payload:
            yield prediction_log_pb2.PredictionLog.FromString(row.tobytes())


def _requests(info: DatasetInfo, rows: int) -> Iterator[prediction_log_pb2.PredictionLog]:
    """One request with so many rows for every signature of `serving.signatures`."""
    image = np.full((info.height, info.width), GREY, np.uint8)
    value = float(flatten_and_scale(image[None])[0, 0])
    features = _filled([rows, info.features], types_pb2.DT_FLOAT, float_val=[value])
    images = _filled([rows, info.height, info.width], types_pb2.DT_UINT8, int_val=[GREY])
    pngs = _filled([rows], types_pb2.DT_STRING, string_val=[encode_stored(image)])
    for signature, name, tensor in (
        ("serving_default", "features", features),
        ("serve_images", "images", images),
        ("serve_png", "image_bytes", pngs),
        ("probabilities_only", "features", features),
    ):
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.model_spec.signature_name = signature
        log.predict_log.request.inputs[name].CopyFrom(tensor)
        yield log
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = "classify"
    shared = log.classify_log.request.input.example_list_with_context
    shared.context.features.feature["features"].float_list.value.extend([value] * info.features)
    shared.examples.extend(example_pb2.Example() for _ in range(rows))
    yield log


def _filled(shape: list[int], dtype: int, **value: Any) -> tensor_pb2.TensorProto:
    """A tensor of equal elements; its message holds the value once."""
    tensor = tensor_pb2.TensorProto(dtype=dtype, **value)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor
