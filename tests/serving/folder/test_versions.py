"""Which version is live, what the ledger survives, and which names are versions."""

import ctypes
import errno
import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, ledger, model_config, standing, versions
from bnpipe.serving.folder.names import check_model_name, default_model_name, parse_version
from tests.serving.folder.served import push, saved_model


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


def test_the_digest_follows_paths_and_bytes_but_not_the_random_fingerprint(tmp_path: Path) -> None:
    first, second = saved_model(tmp_path / "1", "x"), saved_model(tmp_path / "2", "x")
    assert tree_digest(first) == tree_digest(second)
    (second / "fingerprint.pb").unlink()
    assert tree_digest(first) == tree_digest(second)
    (second / "saved_model.pb").rename(second / "saved_model.pbtxt")
    assert tree_digest(first) != tree_digest(second)


def test_the_digest_is_the_documented_formula(tmp_path: Path) -> None:
    from hashlib import sha256

    folder = tmp_path / "m"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"12")
    (folder / "a.b").write_bytes(b"3")
    lines = [f"a.b\0{1}\0{sha256(b'3').hexdigest()}\n", f"a/x\0{2}\0{sha256(b'12').hexdigest()}\n"]
    assert tree_digest(folder) == sha256("".join(sorted(lines)).encode()).hexdigest()


def test_a_link_in_a_model_is_refused(model_a: Path, base: Path) -> None:
    (model_a / "assets" / "vocabulary").symlink_to("/etc/hostname")
    with pytest.raises(ServingError, match="plain file"):
        push(base, model_a)
    assert not base.exists()


def test_nothing_is_live_where_nothing_was_published(base: Path, tmp_path: Path) -> None:
    assert versions.live(base) is None
    assert standing.champion(base, "any") is None
    assert standing.state_of(base, "any") == standing.Standing(True, "publish")
    (tmp_path / "empty").mkdir()
    assert versions.live(tmp_path / "empty") is None


def test_stable_in_models_config_is_live_even_below_a_higher_number(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    assert versions.live(base) == 2
    labels.rollback(base, reason="bad")
    assert versions.live(base) == 1
    assert versions.complete_versions(base) == [1, 2]


def test_without_models_config_the_ledger_says_what_is_live(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    labels.rollback(base, reason="bad")
    (base / model_config.MODELS_CONFIG).unlink()
    assert versions.live(base) == 1


def test_a_folder_that_another_tool_filled_is_taken_over(
    base: Path, model_a: Path, model_b: Path
) -> None:
    saved_model(base / "1700000000", "foreign")
    (base / "1800000000").mkdir()
    champion = standing.champion(base, None)
    assert champion is not None and champion.version == 1700000000
    assert champion.digest == tree_digest(base / "1700000000")
    # The empty folder is no model, but its number is taken.
    assert push(base, model_a).version == 1800000001
    labels.rollback(base, reason="worse than before")
    assert versions.live(base) == 1700000000


def test_provenance_is_read_back(base: Path, model_a: Path) -> None:
    push(base, model_a, provenance={"run": "0001", "dataset": {"name": "mnist"}})
    found = versions.provenance_of(base, 1)
    assert found["run"] == "0001" and found["digest"] == tree_digest(model_a)
    assert json.loads((base / "provenance" / "1.json").read_text()) == found
    with pytest.raises(ServingError, match="no record of v9"):
        versions.provenance_of(base, 9)


def test_a_torn_last_line_of_the_ledger_is_passed_over(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    with (base / ledger.LEDGER).open("ab") as stream:
        stream.write(b'{"event": "reserved", "vers')
    assert versions.live(base) == 1
    assert push(base, model_b).version == 2
    assert versions.live(base) == 2


@pytest.mark.parametrize("line", ["{}", "[]", "null", "garbage", '{"event": "new", "version": 1}'])
def test_a_damaged_line_of_the_ledger_is_named(base: Path, model_a: Path, line: str) -> None:
    push(base, model_a)
    with (base / ledger.LEDGER).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(ServingError, match=r"ledger.jsonl line 3: expected an event"):
        standing.state_of(base, "x")


def test_a_lost_ledger_is_refused_not_started_afresh(base: Path, model_a: Path) -> None:
    push(base, model_a)
    (base / ledger.LEDGER).unlink()
    with pytest.raises(ServingError, match=r"is missing.*restore it"):
        push(base, model_a)


def test_a_ledger_line_that_cannot_be_made_durable_is_taken_back(
    base: Path, model_a: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    push(base, model_a)
    before = (base / ledger.LEDGER).read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        ledger.append(base, "removed", 1)
    assert (base / ledger.LEDGER).read_bytes() == before


def test_reading_leaves_no_trace(base: Path, model_a: Path) -> None:
    push(base, model_a)
    before = sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*"))
    versions.live(base)
    standing.state_of(base, "x")
    standing.champion(base, "x")
    assert sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*")) == before
