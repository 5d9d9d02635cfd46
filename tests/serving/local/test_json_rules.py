"""The JSON of requests and answers, without a server."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnpipe.serving.local import json_examples, json_reply, json_tensor
from bnpipe.serving.local.json_text import decimal, text, type_name
from bnpipe.serving.local.json_values import decode_base64
from bnpipe.serving.local.rapidjson import Parser, parse_object
from bnpipe.serving.local.status import StatusError

FEATURES = {"features": "float"}

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values, st.booleans())
def test_the_parser_reads_what_the_standard_library_writes(value, ascii_only):
    body = json.dumps({"v": value}, ensure_ascii=ascii_only).encode()
    for read in (Parser(body).value(), parse_object(body)):
        assert json.dumps(read) == json.dumps({"v": value})


@given(st.binary(max_size=30) | st.text('{}[]":,0123456789.eE+-tfnulraseNIi \\u', max_size=30))
def test_no_body_raises_anything_but_a_status(body):
    body = body.encode() if isinstance(body, str) else body
    try:
        assert isinstance(parse_object(body), dict)
    except StatusError as error:
        assert error.message.startswith(("JSON Parse error: ", "JSON Value: "))


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"  ", "The document is empty. at offset: 2"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a"', "Missing a colon after a name of object member. at offset: 4"),
        (b'{"a":', "Invalid value. at offset: 5"),
        (b'{"a":1', "Missing a comma or } after an object member. at offset: 6"),
        (b'{"a":1,}', "Missing a name for object member. at offset: 7"),
        (b'{"a":[1 2]}', "Missing a comma or ] after an array element. at offset: 8"),
        (b'{"a":[1,]}', "Invalid value. at offset: 8"),
        (b'{"a":tru}', "Invalid value. at offset: 8"),
        (b'{"a":1.}', "Miss fraction part in number. at offset: 7"),
        (b'{"a":1e}', "Miss exponent in number. at offset: 7"),
        (b'{"a":1e400}', "Number too big to be stored in double. at offset: 5"),
        (b'{"a":' + b"9" * 400 + b"}", "Number too big to be stored in double. at offset: 5"),
        (b'{"a":01}', "Missing a comma or } after an object member. at offset: 6"),
        (b'{"a":"b', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a":"\\x"}', "Invalid escape character in string. at offset: 6"),
        (b'{"a":"\\u12"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
        (b'{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        (b'{"a":"\n"}', "Invalid encoding in string. at offset: 6"),
    ],
)
def test_parse_errors_name_the_place(body, error):
    with pytest.raises(StatusError) as raised:
        parse_object(body)
    assert raised.value.message == f"JSON Parse error: {error}"


def test_what_strict_json_has_not():
    read = parse_object(b'\xef\xbb\xbf {"a": [NaN, -Infinity, Inf], "a": 1} and more')
    assert math.isnan(read["a"][0])
    assert read["a"][1:] == [-math.inf, math.inf]


def test_bytes_that_are_no_utf8_come_back():
    read = parse_object(b'{"a": "\xff\xfe"}')
    (array,) = json_tensor.predict_inputs({"inputs": [read["a"]]}, {"s": "string"}).arrays.values()
    assert array[0] == b"\xff\xfe"
    assert b"\xff\xfe" in json_reply.outputs_by_name({"s": array})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.5, "0.5"),
        (1.0, "1.0"),
        (0.1, "0.1"),
        (1 / 3, "0.333333343"),
        (9e6, "9e+06"),
        (3e-5, "3e-05"),
        (16777216.0, "16777216.0"),
        (math.nan, "NaN"),
        (-math.inf, "-Infinity"),
    ],
)
def test_numbers_are_written_as_float32(value, shown):
    assert decimal(value) == shown


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_written_numbers_read_back_as_the_same_float32(value):
    assert np.float32(decimal(value)) == np.float32(value)


def test_double_keeps_its_digits():
    assert decimal(1 / 3, single=False) == "0.33333333333333331"


def rows(instances, specs=None):
    return json_tensor.predict_inputs({"instances": instances}, specs or FEATURES).arrays


def test_rows_are_stacked():
    arrays = rows([[0, 0.5], [1.0, 2]])
    assert arrays["features"].dtype == np.float32
    assert arrays["features"].tolist() == [[0, 0.5], [1, 2]]


def test_rows_of_several_inputs():
    specs = {"a": "int64", "b": "string"}
    arrays = rows([{"a": 1, "b": "x"}, {"b": {"b64": "eQ=="}, "a": 2}], specs)
    assert arrays["a"].tolist() == [1, 2]
    assert arrays["b"].tolist() == [b"x", b"y"]


def test_empty_rows_have_a_shape():
    assert rows([[], []])["features"].shape == (2, 0)


@pytest.mark.parametrize(
    ("dtype", "value", "stored"),
    [
        ("uint8", 300, 44),
        ("uint8", -1, 255),
        ("int8", 200, -56),
        ("int64", -(2**63), -(2**63)),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("bool", True, True),
        ("double", 0.1, 0.1),
    ],
)
def test_types(dtype, value, stored):
    assert rows([value], {"x": dtype})["x"].tolist() == [stored]


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        ("uint8", 2**31, "JSON Value: 2147483648 Type: Number is not of expected type: uint8"),
        ("int64", 1.0, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ("bool", 1, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("string", 1, "JSON Value: 1 Type: Number is not of expected type: string"),
        ("float", {"a": 1}, None),
        ("float", 2**24, "Cannot convert JSON value: 16777216 to float without loss"),
        ("float", 1e39, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ("half", 1.0, "UNIMPLEMENTED: Conversion of JSON Value: 1.0 to type: half"),
    ],
)
def test_types_that_do_not_fit(dtype, value, error):
    with pytest.raises(StatusError, match="Failed to process element: 0") as raised:
        rows([[value]], {"x": dtype})
    assert error is None or error in raised.value.message


@pytest.mark.parametrize("bad", ["@@", "a", "ab-_", "ab=c", "===="])
def test_base64_that_is_none(bad):
    with pytest.raises(StatusError, match="Unable to base64 decode"):
        decode_base64({"b64": bad})


@given(st.binary(max_size=50))
def test_base64_with_and_without_padding(data):
    import base64

    padded = base64.b64encode(data).decode()
    for shown in (padded, padded.rstrip("="), f" {padded}\n"):
        assert decode_base64({"b64": shown}) == data


def test_lists_of_other_depths():
    with pytest.raises(StatusError, match="found at incorrect level: 2 in the JSON DOM"):
        rows([[[1], 2]])
    with pytest.raises(StatusError, match="Encountered list at unexpected level: 1 expected < 1"):
        rows([[1, [2]]])


def test_a_wide_first_row_costs_no_memory():
    """The shape that the first elements announce is not allocated before the rest is seen."""
    announced = [[[0.0] * 2000, *[[]] * 1999], *[[]] * 1999]
    with pytest.raises(StatusError, match="Encountered list at unexpected size"):
        rows([announced])


def test_answers_in_rows_and_columns():
    outputs = {"p": np.array([[0.5, 1], [0, 0.25]], np.float32), "k": np.array([1, 0])}
    by_row = json.loads(json_reply.predictions(outputs))
    assert by_row == {"predictions": [{"p": [0.5, 1.0], "k": 1}, {"p": [0.0, 0.25], "k": 0}]}
    by_column = json.loads(json_reply.outputs_by_name(outputs))
    assert by_column == {"outputs": {"p": [[0.5, 1.0], [0.0, 0.25]], "k": [1, 0]}}


def test_a_single_output_is_laid_out_as_rapidjson_does():
    body = json_reply.predictions({"p": np.array([2.5, 3, 4.5], np.float32)})
    assert body == b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}'


def test_bytes_outputs_are_base64():
    raw = np.array([b"\x00\xff"], object)
    assert json.loads(json_reply.predictions({"png_bytes": raw})) == {
        "predictions": [{"b64": "AP8="}]
    }


def test_outputs_without_a_batch():
    with pytest.raises(StatusError, match="has no shape information"):
        json_reply.predictions({"x": np.float32(1)})
    with pytest.raises(StatusError, match="has inconsistent batch size: 3 expecting: 2"):
        json_reply.predictions({"x": np.zeros(2), "y": np.zeros(3)})


def test_values_in_errors_are_shown_as_rapidjson_does():
    assert text({"a": [1, {"b": None}], "c": {}}) == (
        '{\n    "a": [1, {\n        "b": null\n    }],\n    "c": {}\n}'
    )


def test_kinds_of_features():
    request = {"examples": [{"i": [1, True], "f": 0.5, "b": ["x", {"b64": "eQ"}], "none": []}]}
    (example,), context = json_examples.examples(request)
    assert context is None
    assert example == {
        "i": ("int64", [1, 1]),
        "f": ("float", [0.5]),
        "b": ("bytes", [b"x", b"y"]),
        "none": ("", []),
    }


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "Feature: x has element with unexpected JSON type: Null"),
        ([[1]], "Feature: x has element with unexpected JSON type: Array"),
        ({"a": 1}, "Feature: x has element with unexpected JSON type: Object"),
        (2**63, "Feature: x has uint64 element. Only int64 is supported."),
        (["a", 1], "Unexpected element type in feature: x expecting type: bytes"),
    ],
)
def test_features_that_are_none(value, error):
    with pytest.raises(StatusError) as raised:
        json_examples.examples({"examples": [{"x": value}]})
    assert raised.value.message == error


def test_deep_nesting_is_an_answer():
    with pytest.raises(StatusError):
        parse_object(b'{"instances": ' + b"[" * 100_000)


def test_names():
    assert [type_name(v) for v in (None, True, False, 1, "a", [], {})] == [
        "Null",
        "True",
        "False",
        "Number",
        "String",
        "Array",
        "Object",
    ]
