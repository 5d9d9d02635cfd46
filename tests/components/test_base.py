"""What gates say: in the words of now, whoever wrote it."""

import json
import math
from typing import Any

import pytest

from bnpipe.components.base import Ruling, caveat, objection
from bnpipe.data.errors import DataError


@pytest.mark.parametrize(
    ("stored", "level", "outcome"),
    [
        ({"level": "warn", "action": "block"}, "block", "warn"),
        ({"level": "not checked", "action": "warn"}, "warn", "not checked"),
        ({"level": "ok"}, None, "ok"),
        ({"outcome": "passed", "passed": True}, None, "ok"),
        ({"outcome": "warned", "passed": False}, None, "warn"),
        ({"outcome": "failed", "passed": False}, None, "block"),
        ({"outcome": "no champion yet", "passed": None}, None, "not checked"),
        ({"passed": True}, None, "ok"),
        ({"passed": False}, None, "block"),
        ({"level": "block", "outcome": "warn"}, "block", "warn"),
        ({"level": None, "outcome": "off"}, None, "off"),
    ],
)
def test_what_any_version_wrote_is_read(stored: dict[str, Any], level: str, outcome: str) -> None:
    ruling = Ruling.from_json({"name": "leak", "sentence": "so it is", "value": 1.0, **stored})
    assert (ruling.name, ruling.level, ruling.outcome) == ("leak", level, outcome)
    assert Ruling.from_json(json.loads(json.dumps(ruling.to_json()))) == ruling


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"outcome": "fine"},
        {"level": "block", "outcome": "passed"},
        {"level": "stop", "outcome": "ok"},
        {"level": "warn", "action": "stop"},
        {"outcome": ["ok"], "level": "block"},
    ],
)
def test_other_words_are_refused_in_one_line(stored: dict[str, Any]) -> None:
    with pytest.raises(DataError) as refused:
        Ruling.from_json({"name": "leak", **stored})
    assert str(refused.value).startswith("leak: expected an outcome of off, not checked, ok, ")
    assert len(str(refused.value).splitlines()) == 1


def test_a_number_that_is_none_is_null() -> None:
    stored = Ruling("calibration", "block", "block", "no", math.nan, math.inf).to_json()
    assert (stored["value"], stored["bound"]) == (None, None)


def test_a_verdict_tells_the_first_that_blocks_and_names_the_others() -> None:
    leak = Ruling("leak", "block", "block", "3 images leak")
    count = Ruling("count", "block", "block", "too few")
    range_ = Ruling("range", "warn", "warn", "too dark")
    assert objection([range_, leak, count]) == "3 images leak (also: count)"
    assert objection([range_, leak]) == "3 images leak"
    assert objection([range_]) == ""
    assert (caveat([leak, range_]), caveat([leak])) == (", warned of range", "")
