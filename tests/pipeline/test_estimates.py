"""The file of estimates: durable, bounded, and readable however its writer died."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bnpipe.pipeline import estimates
from bnpipe.pipeline.estimates import Estimate, append, flaw, newest

ONE = Estimate("2026-11-28T03:00:00Z", 3, 2000, 0.972, 0.965, 0.978, False, "v3 is estimated", "ab")


def test_what_was_appended_is_read_oldest_first(tmp_path: Path) -> None:
    assert estimates.estimates(tmp_path) == []
    later = replace(ONE, version=4, drift=True)
    append(tmp_path, ONE)
    append(tmp_path, later)
    assert estimates.estimates(tmp_path) == [ONE, later]
    assert (newest(tmp_path, 3, "ab"), newest(tmp_path, 4, "ab")) == (ONE, later)
    assert newest(tmp_path, 5, "ab") is newest(tmp_path, None, None) is None
    assert newest(tmp_path, 3, "cd") is None  # v3 of another data set


def test_a_torn_last_line_is_no_estimate_and_is_not_gone_on_with(tmp_path: Path) -> None:
    append(tmp_path, ONE)
    path = tmp_path / "schedule" / "estimates.jsonl"
    whole = path.read_bytes()
    for torn in (whole[:-1], whole[: len(whole) // 2]):
        path.write_bytes(whole + torn)
        assert estimates.estimates(tmp_path) == [ONE]
        append(tmp_path, ONE)
        assert path.read_bytes() == whole * 2


@pytest.mark.parametrize("line", [b"{}", b"3", b"\xff", b'{"time": 1'])
def test_a_damaged_line_hides_no_other(tmp_path: Path, line: bytes) -> None:
    append(tmp_path, ONE)
    with (tmp_path / "schedule" / "estimates.jsonl").open("ab") as file:
        file.write(line + b"\n")
    append(tmp_path, ONE)
    assert estimates.estimates(tmp_path) == [ONE, ONE]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", '"soon"'),
        ("time", '"2026-11-28"'),
        ("accuracy", '"high"'),
        ("low", "NaN"),
        ("high", "1" + "0" * 400),
        ("version", "true"),
        ("requests", "2.5"),
        ("drift", "0"),
        ("sentence", '["x"]'),
        ("sentence", '"\\ud800"'),
        ("model", "null"),
    ],
)
def test_a_line_with_a_value_of_another_kind_is_no_estimate(
    tmp_path: Path, field: str, value: str
) -> None:
    append(tmp_path, ONE)
    text = json.dumps({**asdict(ONE), field: "@"}).replace('"@"', value)
    with (tmp_path / "schedule" / "estimates.jsonl").open("a") as file:
        file.write(text + "\n")
    assert estimates.estimates(tmp_path) == [ONE] and newest(tmp_path, 3, "ab") == ONE


@pytest.mark.parametrize(("make", "kind"), [(os.mkdir, "a folder"), (os.mkfifo, "a named pipe")])
def test_what_is_no_file_holds_no_estimate_and_is_named(
    tmp_path: Path, make: Callable[[Path], None], kind: str
) -> None:
    assert flaw(tmp_path) == ""
    (tmp_path / "schedule").mkdir()
    make(tmp_path / "schedule" / "estimates.jsonl")
    assert estimates.estimates(tmp_path) == [] and newest(tmp_path, 3, "ab") is None
    assert f"estimates.jsonl cannot be read: expected a file with data, received {kind}" in flaw(
        tmp_path
    )
    with pytest.raises(OSError, match=kind):
        append(tmp_path, ONE)


def test_it_grows_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "MOST", 3)
    rows = [replace(ONE, requests=n) for n in range(20)]
    for row in rows:
        append(tmp_path, row)
        kept = estimates.estimates(tmp_path)
        assert kept == rows[: row.requests + 1][-len(kept) :]
        assert min(row.requests + 1, 3) <= len(kept) <= 6
