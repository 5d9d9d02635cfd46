"""How measured values are told: what is missing is never a number."""

import math

import pytest

from bnpipe.pipeline.report.evaluation import Measured, measured, number, points


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_was_not_measured_is_no_zero(missing: float | None):
    assert number(missing) == points(missing) == str(Measured(missing)) == "-"


def test_numbers_and_points():
    assert (number(3.0), number(0.97821), number(1.23e-5)) == ("3", "0.9782", "1.2e-05")
    assert points(-0.0031) == "-0.31"


def test_intervals_stand_beside_their_value():
    found = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.61234]}
    assert str(measured(found, "accuracy")) == "0.5000 [0.4000, 0.6123]"
    assert str(measured({}, "accuracy")) == "-"
