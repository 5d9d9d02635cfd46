"""A client of TF Serving's gRPC interface. Heavy: its messages come with TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bnpipe.serving.client.base import (
    Arrays,
    Classes,
    Client,
    Examples,
    Options,
    Prediction,
    ServerError,
    VersionState,
    is_loopback,
)

_UNREACHABLE = re.compile(
    r"failed to connect|DNS resolution failed|.*Socket closed|.*connection", re.I
)
_BROKEN = re.compile(
    r"(?!failed to connect|connections to all)"
    r"(.*Socket closed|.*connection (reset|closed|aborted))",
    re.I,
)
# We cancel nothing ourselves: that is a server which stops before it looked at the request.
_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
)


class GrpcClient(Client):
    """Asks over gRPC.

    Args:
        address: `HOST:PORT`.
        model: the model's name.
        options: timeout, retries, log.
    """

    def __init__(self, address: str, model: str, options: Options) -> None:
        super().__init__(model, options)
        self._address = address
        # The default limit of 4 MB is less than some answers have. Of proxies gRPC learns from
        # http_proxy; none of them reaches a server on this machine.
        channel_options = [("grpc.max_receive_message_length", -1)]
        if is_loopback(address):
            channel_options.append(("grpc.enable_http_proxy", 0))
        self.channel = grpc.insecure_channel(address, options=channel_options)
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def _predict(
        self, inputs: Arrays, signature: str, version: int | None, label: str | None
    ) -> Prediction:
        request = predict_pb2.PredictRequest()
        self._fill_spec(request.model_spec, version, label, signature)
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(np.asarray(array)))
        response = self._ask(self._predictions.Predict, request)
        outputs = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
        return Prediction(outputs, response.model_spec.version.value)

    def _classify(
        self, examples: Examples, signature: str, version: int | None, label: str | None
    ) -> Classes:
        request = classification_pb2.ClassificationRequest()
        self._fill_spec(request.model_spec, version, label, signature)
        for features in examples:
            example = example_pb2.Example()
            for name, values in features.items():
                example.features.feature[name].float_list.value.extend(values)
            request.input.example_list.examples.append(example)
        response = self._ask(self._predictions.Classify, request)
        return [
            [(c.label, c.score) for c in row.classes] for row in response.result.classifications
        ]

    def status(self, version: int | None = None) -> list[VersionState]:
        """The states of one version, or of all that the server ever saw, the highest first."""
        request = get_model_status_pb2.GetModelStatusRequest()
        self._fill_spec(request.model_spec, version, None)
        response = self._ask(self._models.GetModelStatus, request)
        state = get_model_status_pb2.ModelVersionStatus.State
        codes = {code.value[0]: code.name for code in grpc.StatusCode}
        return [
            VersionState(
                known.version,
                state.Name(known.state),
                codes.get(known.status.error_code, str(known.status.error_code)),
                known.status.error_message,
            )
            for known in response.model_version_status
        ]

    def metadata(self, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """The answer to a metadata request, as REST gives it."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._fill_spec(request.model_spec, version, label)
        response = self._ask(self._predictions.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec, shown = (
            json_format.MessageToDict(message, preserving_proto_field_name=True)
            for message in (response.model_spec, signatures)
        )
        return {
            "model_spec": {"signature_name": "", **spec},
            "metadata": {"signature_def": shown},
        }

    def close(self) -> None:
        """Close the channel."""
        self.channel.close()

    def _fill_spec(
        self, spec: Any, version: int | None, label: str | None, signature: str = ""
    ) -> None:
        spec.name, spec.signature_name = self.model, signature
        if label is not None:
            spec.version_label = label
        elif version is not None:
            spec.version.value = version

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        def call(left: float) -> Any:
            try:
                return method(request, timeout=left)
            except grpc.RpcError as error:
                raise self._refusal(error) from error

        return self._retried(call)

    def _refusal(self, error: Any) -> ServerError:
        code = error.code()
        status = int(code.value[0])
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            text = f"grpc://{self._address} did not answer within {self.options.timeout:g} s"
            return ServerError(text, status=status)
        # A server whose queue is full has this code too, and words of its own.
        if code is grpc.StatusCode.UNAVAILABLE and _UNREACHABLE.match(error.details() or ""):
            return ServerError(
                f"no server at grpc://{self._address}: {error.details()}",
                hint="start one: bnpipe serve",
                transient=True,
                broken=_BROKEN.match(error.details()) is not None,
            )
        return ServerError(
            error.details() or code.name, status=status, transient=code in _TRANSIENT
        )
