"""Warmup: a version answers its recorded requests before it is available."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from bnpipe.data.records.tfrecord import DamagedRecordError
from bnpipe.serving.export.warmup import MOST_RECORDS, WARMUP_FILE, read
from bnpipe.serving.local import inference
from bnpipe.serving.local.servable import Servable
from bnpipe.serving.local.status import Code, StatusError, invalid


def load_and_warm_up(path: Path) -> Servable:
    """A version that has answered its warmup requests, if it has any.

    Raises:
        StatusError: it cannot be loaded; there are too many requests, one is damaged or fails.
    """
    servable = Servable(path)
    try:
        if (path / WARMUP_FILE).is_file():
            _warm_up(servable, path / WARMUP_FILE)
    except BaseException:
        servable.close()
        raise
    return servable


def _warm_up(servable: Servable, file: Path) -> None:
    try:
        for index, log in enumerate(read(file)):
            if index == MOST_RECORDS:
                raise invalid(
                    f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at {file}"
                )
            _replay(servable, log)
    except (DamagedRecordError, DecodeError) as error:
        raise StatusError(
            Code.DATA_LOSS, f"{error}. Please verify your warmup data is in TFRecord format."
        ) from error


def _replay(servable: Servable, log: prediction_log_pb2.PredictionLog) -> None:
    match log.WhichOneof("log_type"):
        case "predict_log":
            request = log.predict_log.request
            arrays = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
            inference.predict(servable, request.model_spec.signature_name, arrays)
        case "classify_log":
            request = log.classify_log.request
            examples = inference.serialized_examples(request.input)
            inference.classify(servable, request.model_spec.signature_name, examples)
        case None:
            return
        case other:
            raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {other}")
