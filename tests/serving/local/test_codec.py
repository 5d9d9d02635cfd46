"""The JSON of requests and answers, without a server."""

import base64
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnpipe.serving.local import codec
from bnpipe.serving.local.status import Code, StatusError

FEATURES = {"features": "float"}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def rows(instances, dtype="float"):
    arrays, in_rows = codec.predict_inputs({"instances": instances}, {"x": dtype})
    assert in_rows
    return arrays["x"]


@given(values, st.booleans())
def test_what_the_standard_library_writes_is_read(value, ascii_only):
    body = json.dumps({"v": value}, ensure_ascii=ascii_only).encode()
    assert repr(codec.parse(body)) == repr({"v": value})


@given(st.binary(max_size=30) | st.text('{}[]":,0123456789.eE+-tfnulraseNIi \\u', max_size=30))
def test_no_body_raises_anything_but_a_status(body):
    body = body.encode() if isinstance(body, str) else body
    try:
        assert isinstance(codec.parse(body), dict)
    except StatusError as error:
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message.startswith(("JSON Parse error: ", "JSON Value: "))


@given(values, st.sampled_from(["float", "double", "uint8", "uint64", "bool", "string", "half"]))
def test_no_value_raises_anything_but_a_status(value, dtype):
    for request in ({"instances": value}, {"inputs": value}, {"inputs": {"x": value}}):
        try:
            arrays, _ = codec.predict_inputs(request, {"x": dtype})
            assert set(arrays) == {"x"}
        except StatusError as error:
            json.loads(codec.error_body(error.message))
    try:
        codec.examples({"examples": [{"x": value}]})
    except StatusError as error:
        json.loads(codec.error_body(error.message))


@pytest.mark.parametrize(
    ("body", "start"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" \n ", "JSON Parse error: The document is empty"),
        (b"instances", "JSON Parse error: "),
        (b'{"a":1,}', "JSON Parse error: "),
        (b'{"a":' + b"9" * 5000 + b"}", "JSON Parse error: "),
        (b'{"instances": ' + b"[" * 100_000, "JSON Parse error: "),
        (b"[1, 2]", "JSON Value: [1, 2] Is not object"),
    ],
)
def test_bodies_that_are_no_object(body, start):
    with pytest.raises(StatusError) as raised:
        codec.parse(body)
    assert raised.value.message.startswith(start)


def test_what_strict_json_has_not():
    read = codec.parse(b'\xef\xbb\xbf {"a": [NaN, -Infinity, Infinity]} and more')
    assert math.isnan(read["a"][0])
    assert read["a"][1:] == [-math.inf, math.inf]


def test_bytes_that_are_no_utf8_reach_the_graph():
    read = codec.parse(b'{"instances": ["\xff\xfe"]}')
    assert rows(read["instances"], "string").tolist() == [b"\xff\xfe"]


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(StatusError, match="Failed to process element: 0"):
        rows(codec.parse(b'{"instances": ["\\ud800"]}')["instances"], "string")


def test_values_in_errors_are_cut():
    with pytest.raises(StatusError) as raised:
        codec.predict_inputs({"instances": 5, "more": "x" * 10_000}, FEATURES)
    assert raised.value.message.startswith('JSON Value: {"instances": 5, "more": "xxx')
    assert len(raised.value.message) < 350


def test_rows_are_stacked():
    array = rows([[0, 0.5], [1.0, 2]])
    assert array.dtype == np.float32
    assert array.tolist() == [[0, 0.5], [1, 2]]


def test_rows_of_several_inputs():
    request = {"instances": [{"a": 1, "b": "x"}, {"b": {"b64": "eQ=="}, "a": 2}]}
    arrays, _ = codec.predict_inputs(request, {"a": "int64", "b": "string"})
    assert arrays["a"].tolist() == [1, 2]
    assert arrays["b"].tolist() == [b"x", b"y"]


def test_columns_by_name_or_bare():
    for inputs in ([[1, 2]], {"features": [[1, 2]], "junk": None}):
        arrays, in_rows = codec.predict_inputs({"inputs": inputs}, FEATURES)
        assert not in_rows
        assert arrays["features"].tolist() == [[1, 2]]
    arrays, _ = codec.predict_inputs({"inputs": {"b64": "eQ"}}, {"b": "string"})
    assert (arrays["b"].shape, arrays["b"].item()) == ((), b"y")


def test_empty_rows_have_a_shape():
    assert rows([[], []]).shape == (2, 0)


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
        ("float", 2**24 + 1, 2**24),
        ("float", 2**70, 2.0**70),
        ("float", 1e39, math.inf),
        ("float", -math.inf, -math.inf),
    ],
)
def test_types(dtype, value, stored):
    array = rows([value], dtype)
    assert array.tolist() == [stored]
    assert array.dtype == {"float": np.float32, "double": np.float64}.get(dtype, dtype)


@pytest.mark.parametrize(
    ("dtype", "value", "error"),
    [
        ("uint8", 2**31, "JSON Value: 2147483648 Type: Number is not of expected type: uint8"),
        ("int64", 1.0, "JSON Value: 1.0 Type: Number is not of expected type: int64"),
        ("int64", True, "JSON Value: true Type: True is not of expected type: int64"),
        ("bool", 1, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("string", 1, "JSON Value: 1 Type: Number is not of expected type: string"),
        ("string", {"a": 1}, 'JSON Value: {"a": 1} not formatted correctly for base64 data'),
        ("float", "x", 'JSON Value: "x" Type: String is not of expected type: float'),
        ("float", None, "JSON Value: null Type: Null is not of expected type: float"),
        ("float", False, "JSON Value: false Type: False is not of expected type: float"),
        ("float", {"a": 1}, 'JSON Value: {"a": 1} Type: Object is not of expected type: float'),
        ("float", 10**400, "JSON Parse error: Number too big to be stored in double."),
    ],
)
def test_types_that_do_not_fit(dtype, value, error):
    with pytest.raises(StatusError) as raised:
        rows([[[value] * 2, [value] * 2]], dtype)
    assert raised.value.message == (
        f"Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: {error}"
    )


def test_a_type_that_json_cannot_give():
    with pytest.raises(StatusError, match=r"Conversion of JSON Value: .* half") as raised:
        codec.predict_inputs({"inputs": [1.0]}, {"x": "half"})
    assert raised.value.code is Code.UNIMPLEMENTED
    with pytest.raises(StatusError, match="to type: half") as raised:
        rows([1.0], "half")
    assert raised.value.code is Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("instances", "error"),
    [
        ([[1, 2], [1, 2, 3]], r"element: 1 of .*Expecting shape \[2\] but got: \[3\]"),
        ([1, [1]], r"element: 1 of .*Expecting shape \[\] but got: \[1\]"),
        ([[[1], 2]], "element: 0 of .*found at incorrect level: 2 in the JSON DOM"),
        ([[1, [2]]], "element: 0 of .*Encountered list at unexpected level"),
        ([[[1, 2], [3]]], "element: 0 of .*unexpected size: 1 at level: 1 expected size: 2"),
        ([[1], [2], ["x"]], "element: 2 of .*Type: String is not of expected type"),
        ([{"x": 1}, 2], "Expecting object but got list at item 1 of input list"),
        ([1, {"x": 2}], "Expecting value/list but got object at item 1 of input list"),
        ([{"x": 1}, {"x": 1, "y": 2}], "element: 1 of .* keys must be equal to: x"),
        ([{"x": 1}, {"x": "a"}], "element: 1 key: x of .*Type: String"),
    ],
)
def test_rows_that_do_not_fit(instances, error):
    with pytest.raises(StatusError, match=error):
        rows(instances)


@pytest.mark.parametrize("bad", ["@@", "a", "ab-_", "ab=c", "====", "ä"])
def test_base64_that_is_none(bad):
    with pytest.raises(StatusError, match="Unable to base64 decode"):
        rows([{"b64": bad}], "string")


@given(st.binary(max_size=50))
def test_base64_with_and_without_padding(data):
    padded = base64.b64encode(data).decode()
    for shown in (padded, padded.rstrip("="), f" {padded}\n"):
        assert rows([{"b64": shown}], "string").tolist() == [data]


def test_a_wide_first_row_costs_no_memory():
    """The shape that the first elements announce is not allocated before the rest is seen."""
    announced = [[[0.0] * 2000, *[[]] * 1999], *[[]] * 1999]
    with pytest.raises(StatusError, match="Encountered list at unexpected size"):
        rows([announced])


def test_answers_in_rows_and_columns():
    outputs = {"p": np.array([[0.5, 1], [0, 0.25]], np.float32), "k": np.array([1, 0])}
    by_row = json.loads(codec.predictions(outputs, rows=True))
    assert by_row == {"predictions": [{"p": [0.5, 1.0], "k": 1}, {"p": [0.0, 0.25], "k": 0}]}
    by_column = json.loads(codec.predictions(outputs, rows=False))
    assert by_column == {"outputs": {"p": [[0.5, 1.0], [0.0, 0.25]], "k": [1, 0]}}


def test_a_single_output_is_not_wrapped():
    outputs = {"p": np.array([2.5, math.nan, -math.inf], np.float32)}
    assert codec.predictions(outputs, rows=True) == b'{"predictions": [2.5, NaN, -Infinity]}'
    assert codec.predictions(outputs, rows=False) == b'{"outputs": [2.5, NaN, -Infinity]}'


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_written_numbers_read_back_as_the_same_float32(numbers):
    body = codec.predictions({"p": np.array(numbers, np.float32)}, rows=False)
    assert json.loads(body)["outputs"] == pytest.approx(numbers, rel=1e-7)
    assert np.array_equal(np.float32(json.loads(body)["outputs"]), np.float32(numbers))


def test_numbers_are_written_as_short_as_float32_allows():
    assert b"[0.1, 1.0]" in codec.predictions({"p": np.array([0.1, 1], np.float32)}, rows=False)
    double = codec.predictions({"p": np.array([1 / 3])}, rows=False)
    assert json.loads(double)["outputs"] == [1 / 3]


def test_bytes_outputs_are_base64():
    raw = np.array([b"\x00\xff"], object)
    assert json.loads(codec.predictions({"png_bytes": raw}, rows=True)) == {
        "predictions": [{"b64": "AP8="}]
    }


def test_texts_and_scores_of_classes():
    body = codec.classifications([[("drei ä".encode(), 0.1), (b"\xff", 0.9)]])
    ((name, score), other) = json.loads(body)["results"][0]
    assert (name, score, other[1]) == ("drei ä", 0.1, 0.9)


def test_outputs_that_json_cannot_show():
    with pytest.raises(StatusError, match="has no shape information"):
        codec.predictions({"x": np.float32(1)}, rows=True)
    with pytest.raises(StatusError, match="has inconsistent batch size: 3"):
        codec.predictions({"x": np.zeros(2), "y": np.zeros(3)}, rows=True)
    with pytest.raises(StatusError, match="Failed to write JSON value for tensor type: float16"):
        codec.predictions({"x": np.zeros(2, np.float16)}, rows=False)


def test_kinds_of_features():
    request = {"examples": [{"i": [1, True], "f": 0.5, "b": ["x", {"b64": "eQ"}], "none": []}]}
    (example,), context = codec.examples(request)
    assert context == {}
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
        ([0.5, 1], "Unexpected element type in feature: x expecting type: float"),
    ],
)
def test_features_that_are_none(value, error):
    with pytest.raises(StatusError) as raised:
        codec.examples({"examples": [{"x": value}]})
    assert raised.value.message == error
