"""What predict computes over REST."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np

from bnpipe.serving.cases.case import (
    Case,
    Failed,
    Match,
    NotApplicable,
    Target,
    answered,
    expect,
    same,
)

_PREDICT = "POST /v1/models/$model:predict"
_ZEROS = '{"instances": [$zeros]}'
_BATCH = 64
_BATCH_TOLERANCE = 1e-5


def _ask(target: Target, body: str, path: str = "/v1/models/$model:predict", **options: Any) -> Any:
    answer = target.ask("POST", target.fill(path), target.fill(body).encode(), **options)
    if answer.status != 200:
        raise Failed(f"status: expected 200, received {answer.status} {answer.body[:300]!r}")
    return answer.json()


def _row(target: Target, value: Any) -> None:
    (row,) = value["predictions"]
    expect("outputs", {"class_id", "probabilities"}, set(row))
    probabilities = row["probabilities"]
    expect("classes", target.classes, len(probabilities))
    expect("sum", True, abs(sum(probabilities) - 1) <= 1e-5)
    expect("class_id", int(np.argmax(probabilities)), row["class_id"])


def _like_zeros(target: Target, value: Any) -> None:
    expect("answer", _ask(target, _ZEROS), value)


def _columns(target: Target, value: Any) -> None:
    (row,) = _ask(target, _ZEROS)["predictions"]
    expect("answer", {"outputs": {name: [v] for name, v in row.items()}}, value)


def _unwrapped(target: Target, value: Any) -> None:
    (row,) = _ask(target, _ZEROS)["predictions"]
    expect("answer", {"predictions": [row["probabilities"]] * 2}, value)


def _like_features(target: Target, value: Any) -> None:
    expect("answer", _ask(target, '{"instances": [$features]}'), value)


def _not_a_number(target: Target, value: Any) -> None:
    (row,) = value["predictions"]
    expect("probabilities", [float("nan")] * target.classes, row["probabilities"])
    expect("class_id", -1, row["class_id"])


def _compressed(target: Target) -> None:
    body = gzip.compress(target.fill(_ZEROS).encode())
    path = target.fill("/v1/models/$model:predict")
    answer = target.ask("POST", path, body, {"Content-Encoding": "gzip"})
    expect("status", 200, answer.status)
    _like_zeros(target, answer.json())


def _by_label(target: Target) -> None:
    path = target.fill("/v1/models/$model/labels/stable:predict")
    answer = target.ask("POST", path, target.fill(_ZEROS).encode())
    if b"Unrecognized servable version label" in answer.body:
        raise NotApplicable("no version has the label stable")
    expect("status", 200, answer.status)
    _row(target, answer.json())


def _alone_or_in_a_batch(target: Target) -> None:
    """Batch normalisation must use its stored statistics, not those of the batch."""
    generator = np.random.default_rng(1)
    rows = generator.random((_BATCH, target.image.size)).round(3).tolist()
    batch = _ask(target, json.dumps({"instances": rows}))["predictions"]
    for index in (0, _BATCH // 2, _BATCH - 1):
        (alone,) = _ask(target, json.dumps({"instances": [rows[index]]}))["predictions"]
        if not same(alone, batch[index], _BATCH_TOLERANCE):
            raise Failed(f"row {index}: expected {alone}, received {batch[index]} in a batch")


def _narrowed(target: Target) -> None:
    """Pixels keep the low 8 bits of an int32."""
    wrapped, plain = target.image.astype(int), target.image.astype(int)
    wrapped[0, 0], plain[0, 0] = 300, 44
    wrapped[0, 1], plain[0, 1] = -1, 255
    received, wanted = (
        _ask(target, json.dumps({"signature_name": "serve_images", "instances": [image.tolist()]}))
        for image in (wrapped, plain)
    )
    expect("answer", wanted, received)


_PNG = '{"signature_name": "serve_png", "instances": '

CASES = (
    answered(24, _PREDICT, _ZEROS, _row, title="instances: one row"),
    answered(
        25, _PREDICT, '{"instances": [{"features": $zeros}]}', _like_zeros, title="a named row"
    ),
    answered(26, _PREDICT, '{"inputs": [$zeros]}', _columns, title="inputs: a bare value"),
    answered(26, _PREDICT, '{"inputs": {"features": [$zeros]}}', _columns, title="inputs: by name"),
    answered(
        27,
        _PREDICT,
        '{"signature_name": "probabilities_only", "instances": [$zeros, $zeros]}',
        _unwrapped,
        title="a single output is not wrapped",
    ),
    answered(
        28,
        _PREDICT,
        '{"signature_name": "serve_images", "instances": [$image]}',
        _like_features,
        title="pixels give what features give",
    ),
    answered(29, _PREDICT, _PNG + '[{"b64": "$png"}]}', _like_features, title="PNG gives the same"),
    answered(
        29,
        _PREDICT,
        _PNG + '[{"image_bytes": {"b64": "$png"}}]}',
        _like_features,
        title="PNG by name",
    ),
    answered(30, _PREDICT, _ZEROS + " trailing", _like_zeros, title="text after the value"),
    answered(
        31,
        _PREDICT,
        '{"inputs": {"features": [$zeros], "junk": 1}}',
        _columns,
        title="an input too many",
    ),
    answered(
        32,
        _PREDICT,
        '{"signature": "nope", "instances": [$zeros]}',
        _like_zeros,
        title="an unknown key",
    ),
    answered(33, _PREDICT, '{"instances": [$nan]}', _not_a_number, title="NaN"),
    answered(34, _PREDICT, '{"instances": [$whole]}', _like_zeros, title="whole numbers"),
    Case(35, "a compressed body", Match.JSON, _compressed),
    answered(
        36,
        "POST /v1/models/$model/versions/$version:predict",
        _ZEROS,
        _like_zeros,
        title="by version",
    ),
    Case(36, "by label", Match.JSON, _by_label),
    Case(37, "a row alone and among 64", Match.JSON, _alone_or_in_a_batch),
    Case(38, "pixels 300 and -1", Match.JSON, _narrowed, seen=False),
)
