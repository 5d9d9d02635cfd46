"""Helpers of the cases: a REST request with all its bytes, gRPC's messages, values by name."""

import base64
import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bnpipe.data.png import encode_stored

SECONDS = 30.0
WIDTH = 784
IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
# What stands for `$name` in the texts of cases.
VALUES = {
    "zeros": json.dumps([0.0] * WIDTH),
    "short": json.dumps([0.0] * (WIDTH - 1)),
    "whole": json.dumps([0] * WIDTH),
    "mixed": json.dumps([0.0, 1] + [0.0] * (WIDTH - 2)),
    "nan": json.dumps([float("nan")] + [0.0] * (WIDTH - 1)),
    "large": json.dumps([1e39] + [0.0] * (WIDTH - 1)),
    "wide_whole": json.dumps([2**24 + 1] * WIDTH),
    "wide_float": json.dumps([float(2**24)] * WIDTH),
    "features": json.dumps((IMAGE.ravel() / np.float32(255)).astype(np.float32).tolist()),
    "image": json.dumps(IMAGE.tolist()),
    "fraction": json.dumps([[0.5] * 28] * 28),
    "png": base64.b64encode(encode_stored(IMAGE)).decode(),
    "hello": base64.b64encode(b"hello").decode(),
    "long": "x" * 10_000,
}


@dataclass(frozen=True)
class Answer:
    """An answer over REST."""

    status: int
    content_type: str | None
    body: bytes

    @property
    def error(self) -> str:
        """The text of a refusal."""
        assert self.content_type == "application/json"
        found = json.loads(self.body)
        assert list(found) == ["error"]
        return str(found["error"])


class Target:
    """A server of version 1 of `mnist`."""

    def __init__(self, url: str, grpc_address: str) -> None:
        self._netloc = urllib.parse.urlsplit(url).netloc
        self.channel = grpc.insecure_channel(grpc_address)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

    def ask(
        self,
        request: str,
        body: str | bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request over REST, `VERB /path`."""
        method, path = request.split(" ", 1)
        if isinstance(body, str):
            body = Template(body).substitute(VALUES).encode()
        connection = http.client.HTTPConnection(self._netloc, timeout=SECONDS)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers.get("Content-Type"), response.read())
        finally:
            connection.close()

    def json(self, request: str, body: str | bytes = b"", **options: Any) -> Any:
        """The value that a request is answered with."""
        answer = self.ask(request, body, **options)
        assert (answer.status, answer.content_type) == (200, "application/json"), answer.body[:300]
        return json.loads(answer.body)

    def predict(
        self,
        inputs: Mapping[str, Any],
        *,
        name: str = "mnist",
        output_filter: Sequence[str] = (),
        **spec: Any,
    ) -> Any:
        """Predict over gRPC."""
        request = predict_pb2.PredictRequest(output_filter=output_filter)
        request.model_spec.name = name
        for field, value in spec.items():
            setattr(request.model_spec, field, value)
        for key, array in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
        return self._predictions.Predict(request, timeout=SECONDS)

    def metadata(self, *fields: str) -> Any:
        """GetModelMetadata over gRPC."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = "mnist"
        return self._predictions.GetModelMetadata(request, timeout=SECONDS)

    def status(self, name: str) -> Any:
        """GetModelStatus over gRPC."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        return self._models.GetModelStatus(request, timeout=SECONDS)

    def reload(self, *models: Mapping[str, Any], labels: Mapping[str, int] | None = None) -> Any:
        """HandleReloadConfigRequest over gRPC; without models an empty one."""
        request = model_management_pb2.ReloadConfigRequest()
        for fields in models:
            model = request.config.model_config_list.config.add(**fields)
            model.version_labels.update(labels or {})
        return self._models.HandleReloadConfigRequest(request, timeout=SECONDS)


def same(left: Any, right: Any, tolerance: float = 1e-6) -> bool:
    """True if two JSON values are equal, floating point numbers nearly so."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k], tolerance) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            same(a, b, tolerance) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= tolerance or (left != left and right != right)
    return type(left) is type(right) and bool(left == right)
