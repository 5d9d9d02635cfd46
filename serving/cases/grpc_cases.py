"""The same server over gRPC. Heavy: its messages come with TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

from bnpipe.serving.cases.case import Case, Failed, Match, NotApplicable, Target, expect

_TIMEOUT = 10.0
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


def _call(target: Target, stub: Any, method: str, request: Any) -> Any:
    with grpc.insecure_channel(target.grpc_address) as channel:
        return getattr(stub(channel), method)(request, timeout=_TIMEOUT)


def _predict(
    target: Target,
    inputs: Mapping[str, Any],
    *,
    name: str | None = None,
    signature: str = "",
    output_filter: Sequence[str] = (),
) -> Any:
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name = target.model if name is None else name
    request.model_spec.signature_name = signature
    for key, array in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(array))
    stub = prediction_service_pb2_grpc.PredictionServiceStub
    return _call(target, stub, "Predict", request)


def _zeros(target: Target, dtype: Any = np.float32) -> dict[str, Any]:
    return {"features": np.zeros((1, target.image.size), dtype)}


def _answers(target: Target) -> None:
    response = _predict(target, _zeros(target))
    spec = response.model_spec
    expect(
        "model_spec",
        [target.model, target.version, "serving_default"],
        [spec.name, spec.version.value, spec.signature_name],
    )
    wanted = target.rest.predict({"features": np.zeros((1, target.image.size), np.float32)})
    received = tf.make_ndarray(response.outputs["probabilities"])
    expect("probabilities", wanted.outputs["probabilities"].tolist(), received.tolist())


def _reload(
    target: Target, *models: Mapping[str, Any], labels: Mapping[str, int] | None = None
) -> Any:
    request = model_management_pb2.ReloadConfigRequest()
    for fields in models:
        model = request.config.model_config_list.config.add(**fields)
        for label, version in (labels or {}).items():
            model.version_labels[label] = version
    return _call(
        target, model_service_pb2_grpc.ModelServiceStub, "HandleReloadConfigRequest", request
    )


def _metadata(target: Target, *fields: str) -> Any:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = target.model
    stub = prediction_service_pb2_grpc.PredictionServiceStub
    return _call(target, stub, "GetModelMetadata", request)


def _status(target: Target, name: str) -> Any:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    return _call(target, model_service_pb2_grpc.ModelServiceStub, "GetModelStatus", request)


def _label_to_unloaded(target: Target) -> Any:
    if not target.intrusive:
        raise NotApplicable("a server that allows it would take over the configuration")
    model = {"name": target.model, "base_path": "/nowhere", "model_platform": "tensorflow"}
    return _reload(target, model, labels={"bogus": target.values["absent"]})


def _session_run(target: Target) -> Any:
    with grpc.insecure_channel(target.grpc_address) as channel:
        method = channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
        return method(b"", timeout=_TIMEOUT)


def _refused(
    number: int,
    title: str,
    ask: Callable[[Target], Any],
    code: grpc.StatusCode,
    error: str,
    match: Match = Match.EXACT,
) -> Case:
    def check(target: Target) -> None:
        try:
            ask(target)
        except grpc.RpcError as failure:
            expect("code", code.name, failure.code().name)
            wanted, received = target.fill(error), failure.details()
            if match is Match.EXACT:
                expect("error", wanted, received)
            elif wanted not in received:
                raise Failed(
                    f"error: expected a text with {wanted!r}, received {received!r}"
                ) from None
            return
        raise Failed(f"expected {code.name}, received an answer")

    return Case(number, title, match, check)


CASES = (
    Case(75, "Predict", Match.JSON, _answers),
    _refused(
        76,
        "Predict without a model name",
        lambda t: _predict(t, _zeros(t), name=""),
        _INVALID,
        "ModelSpec has no name specified.",
    ),
    _refused(
        77,
        "Predict, an unknown signature",
        lambda t: _predict(t, _zeros(t), signature="nope"),
        grpc.StatusCode.FAILED_PRECONDITION,
        'Serving signature key "nope" not found.',
    ),
    _refused(
        78,
        "Predict without inputs",
        lambda t: _predict(t, {}),
        _INVALID,
        "input size does not match signature: 0!=1 len({}) != len({features}). Sent extra: {}. "
        "Missing but required: {features}.",
    ),
    _refused(
        79,
        "Predict, an input of another name",
        lambda t: _predict(t, {"x": _zeros(t)["features"]}),
        _INVALID,
        "not found in request and no default value provided",
        Match.SUB,
    ),
    _refused(
        80,
        "Predict, int64 for float",
        lambda t: _predict(t, _zeros(t, np.int64)),
        _INVALID,
        "Expects arg[0] to be float but int64 is provided",
        Match.SUB,
    ),
    _refused(
        81,
        "Predict, an unknown output",
        lambda t: _predict(t, _zeros(t), output_filter=["nope"]),
        _INVALID,
        "output tensor alias not found in signature: nope Outputs expected to be in the set "
        "{class_id,probabilities}.",
    ),
    _refused(
        81,
        "Predict, the same output twice",
        lambda t: _predict(t, _zeros(t), output_filter=["class_id", "class_id"]),
        _INVALID,
        "duplicate output tensor alias: class_id",
    ),
    _refused(
        82,
        "GetModelMetadata without a field",
        _metadata,
        _INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    _refused(
        82,
        "GetModelMetadata of foo",
        lambda t: _metadata(t, "foo"),
        _INVALID,
        "Metadata field foo is not supported",
    ),
    _refused(
        83,
        "GetModelStatus of an unknown model",
        lambda t: _status(t, "nope"),
        grpc.StatusCode.NOT_FOUND,
        "Could not find any versions of model nope",
    ),
    _refused(
        84,
        "an empty configuration",
        lambda t: _call(
            t,
            model_service_pb2_grpc.ModelServiceStub,
            "HandleReloadConfigRequest",
            model_management_pb2.ReloadConfigRequest(),
        ),
        _INVALID,
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList "
        "is currently supported",
    ),
    _refused(
        85,
        "a relative base_path",
        lambda t: _reload(t, {"name": "mnist", "base_path": "x", "model_platform": "tensorflow"}),
        _INVALID,
        "Expected model mnist to have an absolute path or URI; got base_path()=x",
    ),
    _refused(
        85,
        "a model twice",
        lambda t: _reload(
            t, *[{"name": "mnist", "base_path": "/x", "model_platform": "tensorflow"}] * 2
        ),
        _INVALID,
        "Illegal to list model mnist multiple times in config list",
    ),
    _refused(
        85,
        "a model without a platform",
        lambda t: _reload(t, {"name": "mnist", "base_path": "/x"}),
        _INVALID,
        "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
        "ModelServerConfig::model_platform, model name is mnist",
    ),
    _refused(
        86,
        "a label for a version that is not loaded",
        _label_to_unloaded,
        grpc.StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version $absent of model $model, which is not currently "
        "available for inference",
    ),
    _refused(
        87,
        "SessionRun",
        _session_run,
        grpc.StatusCode.UNIMPLEMENTED,
        "",
        Match.SUB,
    ),
)
