"""Refusals over REST, with their status and words (cases 3 to 16, 39 to 63 and 66 to 74)."""

import re
from typing import NamedTuple

import pytest

from tests.serving.conformance.asking import Target

MODEL = "/v1/models/mnist"
MALFORMED = "Malformed request: "
ELEMENT = "Failed to process element: "
LIST = " of 'instances' list. Error: INVALID_ARGUMENT: "
NOT_FLOAT = " is not of expected type: float"


class Refusal(NamedTuple):
    """A request, and how it is refused: the words exactly, their start, or a part of them.

    The part may be a regular expression.
    """

    number: int
    request: str
    body: str
    status: int
    error: str
    match: str = "exact"

    def agrees(self, words: str) -> bool:
        """True if a server said what is expected."""
        if self.match == "regex":
            return re.search(self.error, words) is not None
        if self.match == "start":
            return words.startswith(self.error)
        return words == self.error if self.match == "exact" else self.error in words


def get(number: int, path: str, status: int, error: str) -> Refusal:
    return Refusal(number, f"GET {path}", "", status, error)


def predict(number: int, body: str, error: str, match: str = "exact") -> Refusal:
    return Refusal(number, f"POST {MODEL}:predict", body, 400, error, match)


def classify(number: int, body: str, error: str, match: str = "exact") -> Refusal:
    return Refusal(number, f"POST {MODEL}:classify", body, 400, error, match)


def example(number: int, examples: str, error: str, match: str = "exact") -> Refusal:
    return classify(
        number, f'{{"signature_name": "classify", "examples": {examples}}}', error, match
    )


ZEROS = '{"instances":[$zeros]}'
REFUSALS = [
    get(3, f"{MODEL}/versions/9", 404, "Could not find version 9 of model mnist"),
    get(4, "/v1/models/nope", 404, "Could not find any versions of model nope"),
    get(6, "/v1/models", 400, "Missing model name in request."),
    get(7, "/v1/models/", 400, f"{MALFORMED}GET /v1/models/"),
    get(8, f"{MODEL}:predict", 400, f"{MALFORMED}GET {MODEL}:predict"),
    Refusal(9, f"POST {MODEL}", "", 400, f"{MALFORMED}POST {MODEL}"),
    Refusal(10, f"PUT {MODEL}", "", 400, f"{MALFORMED}PUT {MODEL}"),
    Refusal(11, f"POST {MODEL}:PREDICT", "", 400, f"{MALFORMED}POST {MODEL}:PREDICT"),
    get(13, f"{MODEL}?x=1", 404, "Could not find any versions of model mnist?x=1"),
    Refusal(14, f"POST {MODEL}:predict?x=1", "", 400, f"{MALFORMED}POST {MODEL}:predict?x=1"),
    Refusal(
        16,
        f"POST {MODEL}/versions/one:predict",
        "",
        400,
        f"{MALFORMED}POST {MODEL}/versions/one:predict",
    ),
    get(
        20,
        f"{MODEL}/versions/9/metadata",
        404,
        "Servable not found for request: Specific(mnist, 9)",
    ),
    predict(39, "", "JSON Parse error: The document is empty"),
    predict(40, "instances = [1]", "JSON Parse error: ", "start"),
    predict(41, "[1, 2]", "JSON Value: [1, 2] Is not object"),
    predict(42, "{}", "Missing 'inputs' or 'instances' key"),
    predict(43, '{"instances": []}', "No values in 'instances' array", "part"),
    predict(44, '{"instances": 5}', "Expecting 'instances' to be an list/array", "part"),
    predict(45, '{"instances":[1],"inputs":[1]}', "Not formatted correctly expecting only", "part"),
    predict(46, '{"signature_name": 100}', "'signature_name' key must be a string", "part"),
    predict(
        47,
        '{"signature_name":"nope","instances":[$zeros]}',
        'Serving signature name: "nope" not found in signature def',
    ),
    predict(48, '{"instances":["x"]}', f'{ELEMENT}0{LIST}JSON Value: "x" Type: String{NOT_FLOAT}'),
    predict(49, '{"instances":[null]}', f"{ELEMENT}0{LIST}JSON Value: null Type: Null{NOT_FLOAT}"),
    predict(49, '{"instances":[true]}', f"{ELEMENT}0{LIST}JSON Value: true Type: True{NOT_FLOAT}"),
    predict(50, '{"instances":[{"features":[0.0],"foo":1}]}', f"{ELEMENT}0 ", "start"),
    predict(51, '{"instances":[{}]}', "keys must be equal to: features", "part"),
    predict(52, '{"inputs":{"x":[$zeros]}}', "Missing named input: features in 'inputs' object."),
    predict(53, '{"instances":[[0.0,1.0],[0.0,1.0,2.0]]}', f"{ELEMENT}1{LIST}Expecting ", "start"),
    predict(
        54,
        '{"instances":[[[1,2],[3]]]}',
        f"{ELEMENT}0{LIST}Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    predict(55, '{"instances":[1, [1]]}', f"{ELEMENT}1{LIST}Expecting shape [] but got: [1]"),
    # A server that batches has padded the batch: its shape is [8,783] there.
    predict(
        56, '{"instances":[$short]}', r"Matrix size-incompatible: In\[0\]: \[\d+,783\]", "regex"
    ),
    predict(
        57,
        '{"signature_name":"serve_images","instances":[$fraction]}',
        "JSON Value: 0.5 Type: Number is not of expected type: uint8",
        "part",
    ),
    predict(
        58,
        '{"signature_name":"serve_png","instances":[{"b64":"@@"}]}',
        f"{ELEMENT}0{LIST}Unable to base64 decode",
    ),
    predict(
        59,
        '{"signature_name":"serve_png","instances":[{"b64":"$hello"}]}',
        "expected 8-bit grayscale PNG images",  # our graph looks before the decoder does
        "part",
    ),
    Refusal(
        60,
        "POST /v1/models/nope:predict",
        ZEROS,
        404,
        "Servable not found for request: Latest(nope)",
    ),
    Refusal(
        61,
        f"POST {MODEL}/versions/9:predict",
        ZEROS,
        404,
        "Servable not found for request: Specific(mnist, 9)",
    ),
    Refusal(
        62,
        f"POST {MODEL}/labels/bogus:predict",
        ZEROS,
        400,
        "Unrecognized servable version label: bogus",
    ),
    # Bad JSON comes before an unknown model.
    Refusal(63, "POST /v1/models/nope:predict", "{", 400, "JSON Parse error: ", "start"),
    example(
        66,
        '[{"features": $whole}]',
        "Key: features, Index: 0.  Data types don't match. Data type: int64 but expected type: "
        "float",
        "part",
    ),
    example(
        67,
        '[{"features": $mixed}]',
        "Unexpected element type in feature: features expecting type: float",
    ),
    example(
        68,
        '[{"features": $short}]',
        "Number of float values != expected.  Values size: 783 but output shape: [784]",
        "part",
    ),
    example(
        69,
        "[{}]",
        "Feature: features (data type: float) is required but could not be found.",
        "part",
    ),
    classify(
        70, "{}", "JSON Value: {} When method is classify, key 'examples' is expected", "start"
    ),
    classify(71, '{"examples": []}', "'examples' value is an empty array", "part"),
    classify(72, '{"examples": [1]}', "Example must be JSON object but got JSON Number"),
    classify(
        73,
        '{"examples": [{"features": $zeros}]}',
        "No classification inputs found in SignatureDef",
        "part",
    ),
    classify(
        74,
        '{"signature_name": "nope", "examples": [{}]}',
        "No signature was found with the name: nope",
    ),
]


@pytest.mark.parametrize(
    "refusal", REFUSALS, ids=[f"{r.number} {r.body[:40] or r.request}" for r in REFUSALS]
)
def test_refused(target: Target, refusal: Refusal) -> None:
    answer = target.ask(refusal.request, refusal.body)
    assert answer.status == refusal.status
    assert refusal.agrees(answer.error), f"expected {refusal.error}, received {answer.error}"


def test_what_a_server_that_batches_says_of_a_wrong_shape_is_accepted() -> None:
    """It was seen with `--enable_batching` and allowed_batch_sizes that begin with 8."""
    (wrong_shape,) = (r for r in REFUSALS if r.number == 56)
    words = "Matrix size-incompatible: In[0]: {}, In[1]: [784,64]"
    assert wrong_shape.agrees(words.format("[8,783]")) and wrong_shape.agrees(
        words.format("[1,783]")
    )
    assert not wrong_shape.agrees(words.format("[8,784]"))


def test_values_in_refusals_are_cut(target: Target) -> None:
    answer = target.ask(f"POST {MODEL}:predict", '{"instances": ["$long"]}')
    assert answer.status == 400
    assert answer.error.startswith(f'{ELEMENT}0{LIST}JSON Value: "xxx')
    assert len(answer.error) < 1000
