"""Warmup requests: a version answers them before it is available, so the first user need not wait.

They are written with the SavedModel, into `assets.extra/tf_serving_warmup_requests`: a TFRecord
file of `PredictionLog`, https://www.tensorflow.org/tfx/serving/saved_model_warmup. Every pixel is
mid-grey: what a network computes takes equally long for any image, and so no version carries
copies of real ones. Heavy: the messages come with TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.records.tfrecord import DamagedRecordError, frame, read_runs
from bnpipe.serving.export.signatures import CLASSIFY, SIGNATURES, Array

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000
"""A server refuses a version with more."""

BATCH_SIZES = (1, 8, 32)
GREY = 128

_FIELDS = {  # of a TensorProto
    "float32": (types_pb2.DT_FLOAT, "float_val"),
    "uint8": (types_pb2.DT_UINT8, "int_val"),
    "object": (types_pb2.DT_STRING, "string_val"),
}


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
    """One request with so many rows for every signature."""
    image = np.full((1, info.height, info.width), GREY, np.uint8)
    for signature in (name for name in SIGNATURES if name != CLASSIFY):
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.model_spec.signature_name = signature
        for name, values in SIGNATURES[signature].request(image).items():
            log.predict_log.request.inputs[name].CopyFrom(_repeated(values, rows))
        yield log
    log = prediction_log_pb2.PredictionLog()
    log.classify_log.request.model_spec.signature_name = CLASSIFY
    (example,) = SIGNATURES[CLASSIFY].request(image)["inputs"]
    shared = log.classify_log.request.input.example_list_with_context
    shared.context.ParseFromString(example)
    shared.examples.extend(example_pb2.Example() for _ in range(rows))
    yield log


def _repeated(values: Array, rows: int) -> tensor_pb2.TensorProto:
    """A tensor of rows like [1, ...], all of equal elements; its message holds the value once."""
    dtype, field = _FIELDS[values.dtype.name]
    tensor = tensor_pb2.TensorProto(dtype=dtype, **{field: [values.item(0)]})
    for size in (rows, *values.shape[1:]):
        tensor.tensor_shape.dim.add(size=size)
    return tensor
