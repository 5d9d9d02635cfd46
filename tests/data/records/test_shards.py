"""Output shards: whole or not there, and reports that carry errors home."""

import logging
from pathlib import Path

import numpy as np
import pytest

from bnpipe.data.errors import DataError
from bnpipe.data.records.shards import (
    ShardWriter,
    UnitReport,
    code_here,
    merged,
    read_reports,
    remove_parts,
    shard_name,
    write_reports,
)
from bnpipe.data.records.tfrecord import read_runs

NAME = shard_name("train", "data_tfrecord", 1, 4)
ROWS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_shard_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "Split-train/data_tfrecord-00001-of-00004"
    with ShardWriter(tmp_path, NAME) as writer:
        writer.write(ROWS)
        assert not path.exists()
    assert writer.count == 3
    (run,) = read_runs(path)
    np.testing.assert_array_equal(run.payload, ROWS)


def test_a_failed_shard_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, NAME) as writer:
        writer.write(ROWS)
        raise RuntimeError
    assert not list((tmp_path / "Split-train").iterdir())


def test_two_tries_at_once_leave_one_whole_shard(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, NAME) as first, ShardWriter(tmp_path, NAME) as second:
        first.write(ROWS)
        second.write(ROWS)
    (path,) = (tmp_path / "Split-train").iterdir()
    assert [len(run.payload) for run in read_runs(path)] == [3]


def test_what_a_killed_worker_left_is_removed(tmp_path: Path) -> None:
    killed = ShardWriter(tmp_path, NAME)
    killed.__enter__().write(ROWS)
    with ShardWriter(tmp_path, NAME) as retried:
        retried.write(ROWS)
    remove_parts(tmp_path)
    assert [p.name for p in (tmp_path / "Split-train").iterdir()] == [Path(NAME).name]


def test_reports_add_up_and_are_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "reports.json"
    first = UnitReport("a", {"x": 1}, {"bad": 2}, host="far")
    second = UnitReport("b", {"y": 2}, {"bad": 1}, host="near")
    write_reports([second, first, UnitReport("c", host="far")], path)
    with caplog.at_level(logging.INFO):
        reports = read_reports(path, log=logging.getLogger())
    assert "images by host: far 1, near 2" in caplog.text
    assert merged(reports, "shards") == {"x": 1, "y": 2}
    assert merged(reports, "counts") == {"bad": 3}
    assert not path.exists()


def test_a_workers_error_comes_home_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "reports.json"
    failed = UnitReport.failed("b", DataError("file x is damaged", hint="fetch it again"))
    write_reports([UnitReport("a"), failed], path)
    with pytest.raises(DataError) as caught:
        read_reports(path)
    assert (caught.value.headline, caught.value.hint) == ("file x is damaged", "fetch it again")


def test_a_failed_unit_says_what_to_do_about_bad_data_only() -> None:
    again = "run example_gen again"
    damaged = UnitReport.failed("u", DataError("x is damaged"), hint=again)
    assert (damaged.error, damaged.hint) == ("x is damaged", again)
    assert UnitReport.failed("u", DataError("x", hint="fetch it"), hint=again).hint == "fetch it"
    full = UnitReport.failed("u", OSError(28, "No space left on device"), hint=again)
    assert (full.error, full.hint) == ("u: [Errno 28] No space left on device", "")


def test_what_a_worker_wrote_elsewhere_is_not_taken_for_written(tmp_path: Path) -> None:
    path = tmp_path / "reports.json"
    with ShardWriter(tmp_path, NAME) as writer:
        writer.write(ROWS)
    report = UnitReport("u", {NAME: 3}, sizes={NAME: writer.size})
    write_reports([report], path)
    assert read_reports(path, folder=tmp_path) == [report]
    for file in (tmp_path / NAME, None):
        if file is not None:
            file.write_bytes(b"shorter")
        else:
            (tmp_path / NAME).unlink()
        write_reports([report], path)
        with pytest.raises(DataError, match=f"wrote {writer.size} bytes to .*same path"):
            read_reports(path, folder=tmp_path)


def test_a_worker_with_other_code_or_libraries_is_named(tmp_path: Path) -> None:
    path = tmp_path / "reports.json"
    other = code_here().replace("numpy ", "numpy 0.")
    write_reports([UnitReport("a"), UnitReport("b", code=other, host="far")], path)
    with pytest.raises(DataError, match=r"worker on far has other code: .* numpy 0") as caught:
        read_reports(path)
    assert "lock file" in caught.value.hint


def test_files_that_were_not_read_or_read_twice_are_named(tmp_path: Path) -> None:
    path = tmp_path / "reports.json"
    whole = [UnitReport(unit, {unit: 2}) for unit in ("a", "b")]
    for reports, unit in ((whole[:1], "b"), ([*whole, whole[0]], "a"), ([], "a")):
        write_reports(reports, path)
        with pytest.raises(DataError, match=f"records of {unit}, expected 2"):
            read_reports(path, asked={"a": 2, "b": 2})
    with pytest.raises(DataError, match="no report"):
        read_reports(path)


def test_workers_of_another_release_are_told_by_their_reports(tmp_path: Path) -> None:
    path = tmp_path / "reports.json"
    path.write_text('[{"unit": "a", "shards": {}, "counts": {}, "of_tomorrow": 1}]')
    with pytest.raises(DataError, match=r"on \? has other code: .*received unknown"):
        read_reports(path)
