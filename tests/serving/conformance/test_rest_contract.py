"""REST: URLs, status, metadata, and what predict and classify compute (cases 1 to 38, 64, 65)."""

import gzip
import json
from typing import Any

import numpy as np
import pytest

from tests.serving.conformance.asking import IMAGE, Target, same

MODEL = "/v1/models/mnist"
PREDICT, CLASSIFY = f"POST {MODEL}:predict", f"POST {MODEL}:classify"
VERSION = {
    "version": "1",
    "state": "AVAILABLE",
    "status": {"error_code": "OK", "error_message": ""},
}


@pytest.mark.parametrize(
    "path",
    [
        MODEL,
        f"{MODEL}/versions/1",
        f"{MODEL}/labels/bogus",
        "/V1/MODELS/mnist",
        f"{MODEL}/METADATA",
    ],
)
def test_status(target: Target, path: str) -> None:
    """Cases 1, 2, 5, 12, 21."""
    assert target.json(f"GET {path}") == {"model_version_status": [VERSION]}


def test_metadata(target: Target) -> None:
    """Case 19."""
    found = target.json(f"GET {MODEL}/metadata")
    assert found["model_spec"] == {"name": "mnist", "signature_name": "", "version": "1"}
    signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    features = signature["inputs"]["features"]
    assert features["dtype"] == "DT_FLOAT"
    assert [dim["size"] for dim in features["tensor_shape"]["dim"]] == ["-1", "784"]


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        (f"POST {MODEL}/versions/99999999999999999999:predict", {}, 400),
        (f"HEAD {MODEL}", {}, 400),
        (f"OPTIONS {MODEL}:predict", {"Origin": "https://a"}, 200),
    ],
)
def test_answers_without_a_body(
    target: Target, request_line: str, headers: dict[str, str], status: int
) -> None:
    """Cases 15, 18, 22."""
    answer = target.ask(request_line, headers=headers)
    assert (answer.status, answer.body) == (status, b"")


@pytest.mark.parametrize("path", ["/healthz", "/monitoring/prometheus/metrics"])
def test_paths_of_something_else(target: Target, path: str) -> None:
    """Cases 17 and 23; metrics are there only for a server that was told so."""
    answer = target.ask(f"GET {path}")
    assert answer.status == 404
    assert b"<h1>not found</h1>" in answer.body.lower()


def zeros(target: Target) -> Any:
    return target.json(PREDICT, '{"instances": [$zeros]}')


def test_a_row(target: Target) -> None:
    """Case 24."""
    (row,) = zeros(target)["predictions"]
    assert set(row) == {"class_id", "probabilities"}
    assert len(row["probabilities"]) == 10
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)
    assert row["class_id"] == int(np.argmax(row["probabilities"]))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (MODEL, '{"instances": [{"features": $zeros}]}'),
        (MODEL, '{"instances": [$zeros]} trailing'),
        (MODEL, '{"signature": "nope", "instances": [$zeros]}'),
        (MODEL, '{"instances": [$whole]}'),
        (f"{MODEL}/versions/1", '{"instances": [$zeros]}'),
        (f"{MODEL}/labels/stable", '{"instances": [$zeros]}'),
    ],
)
def test_other_ways_to_ask_for_the_same_row(target: Target, path: str, body: str) -> None:
    """Cases 25, 30, 32, 34, 36."""
    assert same(target.json(f"POST {path}:predict", body), zeros(target))


@pytest.mark.parametrize(
    "inputs", ["[$zeros]", '{"features": [$zeros]}', '{"features": [$zeros], "junk": 1}']
)
def test_columns(target: Target, inputs: str) -> None:
    """Cases 26 and 31."""
    (row,) = zeros(target)["predictions"]
    expected = {"outputs": {name: [value] for name, value in row.items()}}
    assert same(target.json(PREDICT, f'{{"inputs": {inputs}}}'), expected)


def test_a_single_output_is_not_wrapped(target: Target) -> None:
    """Case 27."""
    body = '{"signature_name": "probabilities_only", "instances": [$zeros, $zeros]}'
    (row,) = zeros(target)["predictions"]
    assert same(target.json(PREDICT, body), {"predictions": [row["probabilities"]] * 2})


@pytest.mark.parametrize(
    ("signature", "instance"),
    [
        ("serve_images", "$image"),
        ("serve_png", '{"b64": "$png"}'),
        ("serve_png", '{"image_bytes": {"b64": "$png"}}'),
    ],
)
def test_an_image_gives_what_its_features_give(
    target: Target, signature: str, instance: str
) -> None:
    """Cases 28 and 29."""
    expected = target.json(PREDICT, '{"instances": [$features]}')
    body = f'{{"signature_name": "{signature}", "instances": [{instance}]}}'
    assert same(target.json(PREDICT, body), expected)


@pytest.mark.parametrize("features", ["$nan", "$large"])
def test_no_number_and_more_than_a_float_holds(target: Target, features: str) -> None:
    """Case 33; a value above 3.4e38 becomes infinite."""
    (row,) = target.json(PREDICT, f'{{"instances": [{features}]}}')["predictions"]
    assert same(row, {"probabilities": [float("nan")] * 10, "class_id": -1})


def test_whole_numbers_that_a_float_cannot_hold(target: Target) -> None:
    exact = target.json(PREDICT, '{"instances": [$wide_float]}')
    assert same(target.json(PREDICT, '{"instances": [$wide_whole]}'), exact)


def test_a_compressed_body(target: Target) -> None:
    """Case 35."""
    body = gzip.compress(json.dumps({"instances": [[0.0] * 784]}).encode())
    assert same(target.json(PREDICT, body, headers={"Content-Encoding": "gzip"}), zeros(target))


def test_a_row_alone_and_among_64(target: Target) -> None:
    """Case 37: batch normalisation uses its stored statistics, not those of the batch."""
    rows = np.random.default_rng(1).random((64, 784)).round(3).tolist()
    batch = target.json(PREDICT, json.dumps({"instances": rows}))["predictions"]
    for index in (0, 32, 63):
        alone = target.json(PREDICT, json.dumps({"instances": [rows[index]]}))["predictions"]
        assert same(alone, [batch[index]], 1e-5)


def test_pixels_keep_their_low_bits(target: Target) -> None:
    """Case 38: 300 is 44, and -1 is 255."""
    wrapped, plain = IMAGE.astype(int), IMAGE.astype(int)
    wrapped[0, :2], plain[0, :2] = (300, -1), (44, 255)
    received, expected = (
        target.json(
            PREDICT, json.dumps({"signature_name": "serve_images", "instances": [image.tolist()]})
        )
        for image in (wrapped, plain)
    )
    assert same(received, expected)


@pytest.mark.parametrize(
    "examples",
    [
        '"examples": [{"features": $features}]',
        '"context": {"features": $features}, "examples": [{}]',
    ],
)
def test_classify(target: Target, examples: str) -> None:
    """Cases 64 and 65: label and score of every class, in order, as predict has them."""
    (row,) = target.json(PREDICT, '{"instances": [$features]}')["predictions"]
    found = target.json(CLASSIFY, f'{{"signature_name": "classify", {examples}}}')
    expected = [[str(label), score] for label, score in enumerate(row["probabilities"])]
    assert same(found, {"results": [expected]})
