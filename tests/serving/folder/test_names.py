"""Which names are versions, and what a model may be called."""

import ctypes
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnpipe.data.errors import RequestError
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.names import (
    check_model_name,
    default_model_name,
    parse_version,
    plain_path,
)


def simple_atoi(name: str) -> int | None:
    """A C library's strtoll under absl's rules: the whole text, blanks around, no overflow."""
    core = name.strip(" \t\n\v\f\r")
    if not core or core.lstrip("+-") != core[len(core) - len(core.lstrip("+-")) :]:
        return None
    if len(core) - len(core.lstrip("+-")) > 1 or not core.lstrip("+-"):
        return None
    if any(c not in string.digits for c in core.lstrip("+-")):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    libc.strtoll.restype = ctypes.c_longlong
    ctypes.set_errno(0)
    value = libc.strtoll(core.encode(), None, 10)
    return None if ctypes.get_errno() else int(value)


@given(st.text(alphabet="0123456789+- \t\n_.e\u0664x", max_size=24) | st.integers().map(str))
def test_a_name_is_a_version_exactly_when_tf_serving_says_so(name: str) -> None:
    assert parse_version(name) == simple_atoi(name)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("7", 7),
        ("007", 7),
        ("+7", 7),
        ("-7", -7),
        (" 7", 7),
        ("7\n", 7),
        ("-0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_odd_names_that_are_versions(name: str, number: int) -> None:
    assert parse_version(name) == number


@pytest.mark.parametrize(
    "name",
    ["", "+", " ", "+ 7", "--7", "7_", "1_0", ".staging-7", "7.tmp", "1e3", "0x7", "\u0667"],
)
def test_names_that_are_no_versions(name: str) -> None:
    assert parse_version(name) is None


@pytest.mark.parametrize("name", ["9223372036854775808", "-9223372036854775809", "9" * 5000])
def test_numbers_beyond_64_bits_are_no_versions(name: str) -> None:
    assert parse_version(name) is None


@pytest.mark.parametrize("name", ["mnist", "a", "emnist-digits", "m_1", "a" * 63])
def test_a_good_model_name_is_accepted(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "Mnist", "1st", "-a", "a" * 64, "a b", "a\n", "a:b", "\u00e4"]
)
def test_a_bad_model_name_is_refused(name: str) -> None:
    with pytest.raises(ServingError, match="model name"):
        check_model_name(name)


@given(st.text(max_size=100))
def test_every_data_set_has_a_valid_default_model_name(dataset: str) -> None:
    check_model_name(default_model_name(dataset))


def test_default_model_names() -> None:
    assert default_model_name("mnist") == "mnist"
    assert default_model_name("rendered_digits") == "rendered_digits"
    assert default_model_name("emnist/digits") == "emnist-digits"
    assert default_model_name("3d/Things") == "model-3d-things"


@pytest.mark.parametrize("letter", "[]*?\\")
def test_a_path_that_tensorflow_takes_for_a_pattern_is_refused(tmp_path: Path, letter: str) -> None:
    (tmp_path / f"a{letter}b").mkdir()
    (tmp_path / "link").symlink_to(f"a{letter}b")
    for path in (tmp_path / f"a{letter}b" / "c", tmp_path / "link"):
        with pytest.raises(RequestError, match=r"it: expected a path without .* received .*; name"):
            plain_path(path, "it")
    plain = tmp_path / "a {b} ~$%#!(é),:;"
    assert plain_path(plain, "it") == plain
