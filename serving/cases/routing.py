"""URLs, status and metadata."""

from __future__ import annotations

from typing import Any

from bnpipe.serving.cases.case import Case, Failed, Match, Target, answered, expect, refused

_MALFORMED = "Malformed request: "


def _status(target: Target, value: Any) -> None:
    """The status list: the version that answers is there and AVAILABLE, the highest is first."""
    versions = value["model_version_status"]
    numbers = [int(v["version"]) for v in versions]
    expect("order", sorted(numbers, reverse=True), numbers)
    found = {v["version"]: v for v in versions}
    wanted = {
        "version": str(target.version),
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    expect("version", wanted, found.get(str(target.version)))


def _one_status(target: Target, value: Any) -> None:
    expect("versions", 1, len(value["model_version_status"]))
    _status(target, value)


def _metadata(target: Target, value: Any) -> None:
    spec = {"name": target.model, "signature_name": "", "version": str(target.version)}
    expect("model_spec", spec, value["model_spec"])
    default = value["metadata"]["signature_def"]["signature_def"]["serving_default"]
    expect("method_name", "tensorflow/serving/predict", default["method_name"])
    features = default["inputs"]["features"]
    expect("dtype", "DT_FLOAT", features["dtype"])
    sizes = [dim["size"] for dim in features["tensor_shape"]["dim"]]
    expect("dims", ["-1", str(target.image.size)], sizes)


def _empty(method: str, path: str, status: int, headers: dict[str, str] | None = None) -> Any:
    def check(target: Target) -> None:
        answer = target.ask(method, target.fill(path), headers=headers)
        expect("status", status, answer.status)
        expect("body", b"", answer.body)

    return check


def _not_ours(target: Target) -> None:
    answer = target.ask("GET", "/healthz")
    expect("status", 404, answer.status)
    if b"<h1>not found</h1>" not in answer.body.lower():
        raise Failed(f"expected HTML with <H1>Not Found</H1>, received {answer.body[:200]!r}")


def _monitoring(target: Target) -> None:
    path = "/monitoring/prometheus/metrics"
    answer = target.ask("GET", path)
    if answer.status == 404:  # not enabled
        return
    expect("status", 200, answer.status)
    wanted = f':tensorflow:serving:request_count{{model_name="{target.model}",status="OK"}}'
    if wanted.encode() not in answer.body:
        raise Failed(f"expected metrics with {wanted}")
    wrong = target.ask("GET", f"{path}?x=1")
    expect("status", 400, wrong.status)
    expect("body", f"Unexpected path: {path}?x=1. Should be {path}", wrong.body.decode())


_M = "/v1/models/$model"

CASES = (
    answered(1, f"GET {_M}", "", _status),
    answered(2, f"GET {_M}/versions/$version", "", _one_status),
    refused(
        3, f"GET {_M}/versions/$absent", "", 404, "Could not find version $absent of model $model"
    ),
    refused(4, "GET /v1/models/nope", "", 404, "Could not find any versions of model nope"),
    answered(5, f"GET {_M}/labels/bogus", "", _status, title="an unknown label in a status URL"),
    refused(6, "GET /v1/models", "", 400, "Missing model name in request."),
    refused(7, "GET /v1/models/", "", 400, f"{_MALFORMED}GET /v1/models/"),
    refused(8, f"GET {_M}:predict", "", 400, f"{_MALFORMED}GET {_M}:predict"),
    refused(9, f"POST {_M}", "", 400, f"{_MALFORMED}POST {_M}"),
    refused(10, f"PUT {_M}", "", 400, f"{_MALFORMED}PUT {_M}"),
    refused(11, f"POST {_M}:PREDICT", "", 400, f"{_MALFORMED}POST {_M}:PREDICT"),
    answered(12, "GET /V1/MODELS/$model", "", _status),
    refused(13, f"GET {_M}?x=1", "", 404, "Could not find any versions of model $model?x=1"),
    refused(14, f"POST {_M}:predict?x=1", "", 400, f"{_MALFORMED}POST {_M}:predict?x=1"),
    Case(
        15,
        "a version number over 64 bits",
        Match.EXACT,
        _empty("POST", f"{_M}/versions/99999999999999999999:predict", 400),
        seen=False,
    ),
    refused(
        16,
        f"POST {_M}/versions/one:predict",
        "",
        400,
        f"{_MALFORMED}POST {_M}/versions/one:predict",
    ),
    Case(17, "GET /healthz", Match.SUB, _not_ours),
    Case(18, f"HEAD {_M}", Match.EXACT, _empty("HEAD", _M, 400), seen=False),
    answered(19, f"GET {_M}/metadata", "", _metadata),
    refused(
        20,
        f"GET {_M}/versions/$absent/metadata",
        "",
        404,
        "Servable not found for request: Specific($model, $absent)",
    ),
    answered(21, f"GET {_M}/METADATA", "", _status, title="METADATA in capitals", seen=False),
    Case(
        22,
        "OPTIONS with an Origin",
        Match.EXACT,
        _empty("OPTIONS", f"{_M}:predict", 200, {"Origin": "https://a"}),
    ),
    Case(23, "GET /monitoring/prometheus/metrics", Match.SUB, _monitoring),
)
