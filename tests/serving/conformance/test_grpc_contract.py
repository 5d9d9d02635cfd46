"""The same server over gRPC (cases 75 to 87)."""

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf

from tests.serving.conformance.asking import SECONDS, Target

ZEROS = {"features": np.zeros((1, 784), np.float32)}
INVALID = "INVALID_ARGUMENT"
MODEL = {"name": "mnist", "base_path": "/x", "model_platform": "tensorflow"}


def test_predict(target: Target) -> None:
    """Case 75."""
    response = target.predict(ZEROS)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("mnist", 1, "serving_default")
    (row,) = target.json("POST /v1/models/mnist:predict", '{"instances": [$zeros]}')["predictions"]
    received = tf.make_ndarray(response.outputs["probabilities"])
    np.testing.assert_allclose(received, [row["probabilities"]], atol=1e-6)


def session_run(target: Target) -> Any:
    method = target.channel.unary_unary("/tensorflow.serving.SessionService/SessionRun")
    return method(b"", timeout=SECONDS)


@pytest.mark.parametrize(
    ("ask", "code", "error"),
    [
        pytest.param(ask, code, error, id=f"{number} {title}")
        for number, title, ask, code, error in [
            (
                76,
                "no model name",
                lambda t: t.predict(ZEROS, name=""),
                INVALID,
                "ModelSpec has no name specified.",
            ),
            (
                77,
                "an unknown signature",
                lambda t: t.predict(ZEROS, signature_name="nope"),
                "FAILED_PRECONDITION",
                'Serving signature key "nope" not found.',
            ),
            (
                78,
                "no inputs",
                lambda t: t.predict({}),
                INVALID,
                "input size does not match signature: 0!=1 len({}) != len({features}). Sent "
                "extra: {}. Missing but required: {features}.",
            ),
            (
                79,
                "an input of another name",
                lambda t: t.predict({"x": ZEROS["features"]}),
                INVALID,
                "not found in request and no default value provided",
            ),
            (
                80,
                "int64 for float",
                lambda t: t.predict({"features": np.zeros((1, 784), np.int64)}),
                INVALID,
                "Expects arg[0] to be float but int64 is provided",
            ),
            (
                81,
                "an unknown output",
                lambda t: t.predict(ZEROS, output_filter=["nope"]),
                INVALID,
                "output tensor alias not found in signature: nope Outputs expected to be in the "
                "set {class_id,probabilities}.",
            ),
            (
                81,
                "an output twice",
                lambda t: t.predict(ZEROS, output_filter=["class_id", "class_id"]),
                INVALID,
                "duplicate output tensor alias: class_id",
            ),
            (
                82,
                "no metadata field",
                lambda t: t.metadata(),
                INVALID,
                "GetModelMetadataRequest must specify at least one metadata_field",
            ),
            (
                82,
                "metadata field foo",
                lambda t: t.metadata("foo"),
                INVALID,
                "Metadata field foo is not supported",
            ),
            (
                83,
                "status of an unknown model",
                lambda t: t.status("nope"),
                "NOT_FOUND",
                "Could not find any versions of model nope",
            ),
            (
                84,
                "an empty configuration",
                lambda t: t.reload(),
                INVALID,
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported",
            ),
            (
                85,
                "a relative base_path",
                lambda t: t.reload({**MODEL, "base_path": "x"}),
                INVALID,
                "Expected model mnist to have an absolute path or URI; got base_path()=x",
            ),
            (
                85,
                "a model twice",
                lambda t: t.reload(MODEL, MODEL),
                INVALID,
                "Illegal to list model mnist multiple times in config list",
            ),
            (
                85,
                "a model without a platform",
                lambda t: t.reload({"name": "mnist", "base_path": "/x"}),
                INVALID,
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform, model name is mnist",
            ),
            (
                86,
                "a label for a version that is not loaded",
                lambda t: t.reload(MODEL, labels={"bogus": 9}),
                "FAILED_PRECONDITION",
                "Request to assign label to version 9 of model mnist, which is not currently "
                "available for inference",
            ),
            (87, "SessionRun", session_run, "UNIMPLEMENTED", ""),
            (
                0,
                "an empty label",
                lambda t: t.predict(ZEROS, version_label=""),
                INVALID,
                "Unrecognized servable version label: ",
            ),
        ]
    ],
)
def test_refused(target: Target, ask: Callable[[Target], Any], code: str, error: str) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        ask(target)
    assert raised.value.code().name == code
    assert error in raised.value.details()
