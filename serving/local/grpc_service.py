"""The gRPC port: PredictionService and ModelService."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from bnpipe.serving.export.signatures import DEFAULT
from bnpipe.serving.local import config, inference
from bnpipe.serving.local.manager import Manager
from bnpipe.serving.local.servable import Servable
from bnpipe.serving.local.status import Code, StatusError, invalid

_LONGEST_MESSAGE = 1024
# Of the numbers that our signatures answer with.
_TYPED_FIELDS = {types_pb2.DT_FLOAT: "float_val", types_pb2.DT_INT64: "int64_val"}
_THREADS = 16
_STATUS = {Code(status.value[0]): status for status in grpc.StatusCode}
T = TypeVar("T")


class GrpcServer:
    """Serves gRPC.

    Args:
        manager: what is loaded.
        host: the address to listen on.
        port: the port; 0 for any free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, manager: Manager[Servable], host: str, port: int) -> None:
        workers = ThreadPoolExecutor(_THREADS, thread_name_prefix="grpc")
        options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(workers, options=options)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            PredictionService(manager), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            ModelService(manager), self._server
        )
        address = f"[{host}]" if ":" in host else host
        try:
            self.port = int(self._server.add_insecure_port(f"{address}:{port}"))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}:{port}: {error}") from error
        self._server.start()

    def stop(self, grace: float) -> None:
        """Accept nothing new, and wait for requests in flight, at most `grace` seconds."""
        self._server.stop(grace).wait()


def _answered(call: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """A method whose StatusError becomes the call's status."""

    def method(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return call(self, request)
        except StatusError as error:
            code, message = error.code, error.message
        except Exception as error:  # a fault of ours is answered like any other
            code, message = Code.INTERNAL, f"{type(error).__name__}: {error}"
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}...TRUNCATED"
        context.abort(_STATUS[code], message)
        return None

    return method


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference; Regress and MultiInference are not implemented."""

    def __init__(self, manager: Manager[Servable]) -> None:
        self._manager = manager

    @_answered
    def Predict(self, request: Any) -> Any:  # noqa: N802
        """Outputs by name."""
        response = predict_pb2.PredictResponse()

        def predict(servable: Servable, signature: str) -> inference.Arrays:
            inputs = {name: _array(name, proto) for name, proto in request.inputs.items()}
            return inference.predict(servable, signature, inputs, list(request.output_filter))

        for name, array in self._infer(request, response, predict).items():
            response.outputs[name].CopyFrom(tensor_proto(array))
        return response

    @_answered
    def Classify(self, request: Any) -> Any:  # noqa: N802
        """Label and score of every class."""
        response = classification_pb2.ClassificationResponse()
        examples = inference.serialized_examples(request.input)

        def classify(servable: Servable, signature: str) -> Any:
            return inference.classify(servable, signature, examples)

        for row in self._infer(request, response, classify):
            classes = response.result.classifications.add().classes
            for label, score in row:
                classes.add(label=label, score=score)
        return response

    @_answered
    def GetModelMetadata(self, request: Any) -> Any:  # noqa: N802
        """The signatures of a loaded version."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != "signature_def":
                raise invalid(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self._acquire(request.model_spec) as (version, servable):
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=servable.signatures)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata["signature_def"].Pack(signatures)
        return response

    def _infer(self, request: Any, response: Any, call: Callable[[Servable, str], T]) -> T:
        """Call with the version and the signature that are asked for, and say which they were."""
        spec = request.model_spec
        with self._acquire(spec) as (version, servable):
            answer = call(servable, spec.signature_name)
        response.model_spec.name = spec.name
        response.model_spec.signature_name = spec.signature_name or DEFAULT
        response.model_spec.version.value = version
        return answer

    def _acquire(self, spec: Any) -> Any:
        version = spec.version.value if spec.HasField("version") else None
        label = spec.version_label if spec.HasField("version_label") else None
        return self._manager.acquire(spec.name, version, label)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """The states of versions, and the configuration that says which should be loaded."""

    def __init__(self, manager: Manager[Servable]) -> None:
        self._manager = manager

    @_answered
    def GetModelStatus(self, request: Any) -> Any:  # noqa: N802
        """State of one version, or of all that were ever seen."""
        if not request.HasField("model_spec"):
            raise invalid("Missing ModelSpec")
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        response = get_model_status_pb2.GetModelStatusResponse()
        for known in self._manager.statuses(spec.name, version):
            shown = response.model_version_status.add(version=known.number, state=int(known.state))
            shown.status.error_message = known.error.message if known.error else ""
            shown.status.error_code = int(known.error.code) if known.error else 0
        return response

    @_answered
    def HandleReloadConfigRequest(self, request: Any) -> Any:  # noqa: N802
        """Take over a configuration."""
        self._manager.reload(config.entries(request.config))
        return model_management_pb2.ReloadConfigResponse()


def tensor_proto(array: Any) -> Any:
    """A tensor as the server sends it: numbers in typed fields, which some clients read."""
    proto = tf.make_tensor_proto(array)
    field = _TYPED_FIELDS.get(proto.dtype)
    if field is not None:
        getattr(proto, field)[:] = tf.make_ndarray(proto).ravel().tolist()
        proto.ClearField("tensor_content")
    return proto


def _array(name: str, proto: Any) -> Any:
    try:
        return tf.make_ndarray(proto)
    except (TypeError, ValueError) as error:
        raise invalid(f"tensor parsing error: {name}") from error
