"""JSON that every parser reads."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data.json_text import json_text


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_what_json_cannot_say_is_null() -> None:
    value = {"a": [1.5, math.inf, (-math.inf, "Infinity")], "b": {"c": math.nan}, "d": True}
    read = json.loads(json_text(value), parse_constant=refuse)
    assert read == {"a": [1.5, None, [None, "Infinity"]], "b": {"c": None}, "d": True}


def test_it_is_null_in_what_others_make_of_a_value_too() -> None:
    def as_dict(value: Any) -> Any:
        return {"suffix": value.suffix, "size": math.nan}

    text = json_text([Path("a.txt"), math.inf], default=as_dict, indent=1, sort_keys=True)
    assert json.loads(text, parse_constant=refuse) == [{"suffix": ".txt", "size": None}, None]
    assert text.splitlines()[2:4] == ['  "size": null,', '  "suffix": ".txt"']


def test_all_else_is_as_python_writes_it() -> None:
    value = {"b": [1, 2.5, "é"], "a": None}
    assert json_text(value, indent=2, sort_keys=True) == json.dumps(value, indent=2, sort_keys=True)
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_text({"a": Path()})
