"""What predict refuses over REST."""

from __future__ import annotations

from bnpipe.serving.cases.case import Case, Match, refused

_PREDICT = "POST /v1/models/$model:predict"
_ELEMENT = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: "
_FIRST, _SECOND = _ELEMENT.format(0), _ELEMENT.format(1)
_NOT_FLOAT = " is not of expected type: float"


def _bad(number: int, body: str, error: str, match: Match = Match.EXACT, title: str = "") -> Case:
    return refused(number, _PREDICT, body, 400, error, match, title=title or body)


CASES = (
    _bad(39, "", "JSON Parse error: The document is empty", title="an empty body"),
    _bad(40, "instances = [1]", "JSON Parse error: Invalid value. at offset: 0"),
    _bad(41, "[1, 2]", "JSON Value: [1, 2] Is not object"),
    _bad(42, "{}", "Missing 'inputs' or 'instances' key"),
    _bad(
        43,
        '{"instances": []}',
        "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
    ),
    _bad(
        44,
        '{"instances": 5}',
        "JSON Value: {\n    \"instances\": 5\n} Expecting 'instances' to be an list/array",
    ),
    _bad(
        45,
        '{"instances":[1],"inputs":[1]}',
        'JSON Value: {\n    "instances": [1],\n    "inputs": [1]\n} Not formatted correctly '
        "expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    _bad(
        46,
        '{"signature_name": 100}',
        "JSON Value: {\n    \"signature_name\": 100\n} not formatted correctly. 'signature_name' "
        "key must be a string value.",
    ),
    _bad(
        47,
        '{"signature_name":"nope","instances":[$zeros]}',
        'Serving signature name: "nope" not found in signature def',
        title="an unknown signature",
    ),
    _bad(48, '{"instances":["x"]}', f'{_FIRST}JSON Value: "x" Type: String{_NOT_FLOAT}'),
    _bad(49, '{"instances":[null]}', f"{_FIRST}JSON Value: null Type: Null{_NOT_FLOAT}"),
    _bad(49, '{"instances":[true]}', f"{_FIRST}JSON Value: true Type: True{_NOT_FLOAT}"),
    _bad(
        50,
        '{"instances":[{"features":[0.0],"foo":1}]}',
        "Failed to process element: 0 key: foo of 'instances' list. Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: foo",
    ),
    _bad(51, '{"instances":[{}]}', "keys must be equal to: features", Match.SUB),
    _bad(
        52,
        '{"inputs":{"x":[$zeros]}}',
        "Missing named input: features in 'inputs' object.",
        title="an input of another name",
    ),
    _bad(
        53,
        '{"instances":[[0.0,1.0],[0.0,1.0,2.0]]}',
        f"{_SECOND}Expecting tensor size: 2 but got: 3",
    ),
    _bad(
        54,
        '{"instances":[[[1,2],[3]]]}',
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        Match.SUB,
    ),
    _bad(55, '{"instances":[1, [1]]}', f"{_SECOND}Expecting shape [] but got: [1]"),
    _bad(
        56,
        '{"instances":[$short]}',
        "Matrix size-incompatible: In[0]: [1,$less]",
        Match.SUB,
        title="a feature too few",
    ),
    _bad(
        57,
        '{"signature_name":"serve_images","instances":[$fraction]}',
        "JSON Value: 0.5 Type: Number is not of expected type: uint8",
        Match.SUB,
        title="fractions for pixels",
    ),
    _bad(
        58,
        '{"signature_name":"serve_png","instances":[{"b64":"@@"}]}',
        f"{_FIRST}Unable to base64 decode",
    ),
    _bad(
        59,
        '{"signature_name":"serve_png","instances":[{"b64":"$hello"}]}',
        "expected 8-bit grayscale PNG images",  # our graph looks before the decoder does
        Match.SUB,
        title="bytes that are no image",
    ),
    refused(
        60,
        "POST /v1/models/nope:predict",
        '{"instances":[$zeros]}',
        404,
        "Servable not found for request: Latest(nope)",
    ),
    refused(
        61,
        "POST /v1/models/$model/versions/$absent:predict",
        '{"instances":[$zeros]}',
        404,
        "Servable not found for request: Specific($model, $absent)",
    ),
    refused(
        62,
        "POST /v1/models/$model/labels/bogus:predict",
        '{"instances":[$zeros]}',
        400,
        "Unrecognized servable version label: bogus",
    ),
    refused(
        63,
        "POST /v1/models/nope:predict",
        "{",
        400,
        "JSON Parse error: Missing a name for object member. at offset: 1",
        title="bad JSON for an unknown model",
    ),
)
