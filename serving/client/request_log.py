"""Requests and answers as TFRecords of `PredictionLog`: the stock server cannot write them.

The records are what a warmup file holds, so they can warm up the next version, and what retraining
reads to see drift. They are copies of real inputs: treat the folder like the data itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.data.durable import write_all
from bnpipe.data.quiet import quiet
from bnpipe.data.records.tfrecord import frame
from bnpipe.serving.errors import ServingError


class RequestLog:
    """Writes one file per process, `requests-<UTC time>-<pid>.tfrecord`.

    Args:
        folder: where to; made if it does not exist.

    Raises:
        ServingError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        started = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self.path = folder / f"requests-{started}-{os.getpid()}.tfrecord"
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise ServingError(f"cannot log requests to {folder}: {error.strerror}") from error

    def predict(
        self,
        model: str,
        signature: str,
        version: int | None,
        inputs: Mapping[str, npt.NDArray[Any]],
        outputs: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        """Append a predict request with its answer, in one write.

        Args:
            model: the model that was asked.
            signature: the signature that was run.
            version: the version that answered, if it is known.
            inputs: arrays of any shape and type by name, the batch first.
            outputs: likewise.

        Raises:
            ServingError: the disk refuses.
        """
        # The messages come with TensorFlow; a client that does not log need not wait for it.
        with quiet():
            import tensorflow as tf
            from tensorflow_serving.apis import prediction_log_pb2

        log = prediction_log_pb2.PredictionLog()
        for message in (log.predict_log.request, log.predict_log.response):
            message.model_spec.name, message.model_spec.signature_name = model, signature
            if version is not None:
                message.model_spec.version.value = version
        for name, array in inputs.items():
            log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(array)))
        for name, array in outputs.items():
            log.predict_log.response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        record = np.frombuffer(log.SerializeToString(), np.uint8)
        try:
            with self._lock:
                write_all(self._file, frame(record[None]).tobytes())
        except OSError as error:
            raise ServingError(f"cannot write {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
