"""What classify computes and refuses over REST."""

from __future__ import annotations

import json
from typing import Any

from bnpipe.serving.cases.case import Case, Match, Target, answered, expect, refused

_CLASSIFY = "POST /v1/models/$model:classify"


def _scores(target: Target, value: Any) -> None:
    """Label and score of every class, in order, with the probabilities that predict gives."""
    body = target.fill('{"instances": [$features]}').encode()
    answer = target.ask("POST", target.fill("/v1/models/$model:predict"), body).json()
    (row,) = answer["predictions"]
    (result,) = value["results"]
    expect("scores", row["probabilities"], [score for _, score in result])
    expect("distinct labels", target.classes, len({label for label, _ in result}))


def _ask(number: int, examples: str, error: str, match: Match, title: str) -> Case:
    body = f'{{"signature_name": "classify", "examples": {examples}}}'
    return refused(number, _CLASSIFY, body, 400, error, match, title=title)


CASES = (
    answered(
        64,
        _CLASSIFY,
        '{"signature_name": "classify", "examples": [{"features": $features}]}',
        _scores,
        title="an example",
    ),
    answered(
        65,
        _CLASSIFY,
        '{"signature_name": "classify", "context": {"features": $features}, "examples": [{}]}',
        _scores,
        title="an example from the context",
        seen=False,
    ),
    _ask(
        66,
        '[{"features": $whole}]',
        "Key: features, Index: 0.  Data types don't match. Data type: int64 but expected type: "
        "float",
        Match.SUB,
        "whole numbers",
    ),
    _ask(
        67,
        '[{"features": $mixed}]',
        "Unexpected element type in feature: features expecting type: float",
        Match.EXACT,
        "a whole number among fractions",
    ),
    _ask(
        68,
        '[{"features": $short}]',
        "Number of float values != expected.  Values size: $less but output shape: [$width]",
        Match.SUB,
        "a feature too few",
    ),
    _ask(
        69,
        "[{}]",
        "Feature: features (data type: float) is required but could not be found.",
        Match.SUB,
        "no features",
    ),
    refused(
        70,
        _CLASSIFY,
        "{}",
        400,
        "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        title="no examples",
    ),
    refused(
        71,
        _CLASSIFY,
        '{"examples": []}',
        400,
        "'examples' value is an empty array",
        Match.SUB,
        title="an empty list",
    ),
    refused(
        72,
        _CLASSIFY,
        '{"examples": [1]}',
        400,
        "Example must be JSON object but got JSON Number",
        title="a number",
    ),
    refused(
        73,
        _CLASSIFY,
        '{"examples": [{"features": $zeros}]}',
        400,
        "No classification inputs found in SignatureDef",
        Match.SUB,
        title="a signature that cannot classify",
        seen=False,
    ),
    refused(
        74,
        _CLASSIFY,
        json.dumps({"signature_name": "nope", "examples": [{}]}),
        400,
        "No signature was found with the name: nope",
        title="an unknown signature",
    ),
)
