"""Spans: which folders are spans, when they are complete, and what identifies their contents."""

import json
import os
import time
from pathlib import Path

import pytest

from bnpipe.data.errors import DataError, DataRequestError
from bnpipe.data.sources import spans
from bnpipe.data.sources.spans import Span, check_layout, content_digests, find_spans, left_out

AGES = 3600.0


def make(folder: Path, *files: str, complete: bool = True) -> Path:
    for name in files or ("train/7/a.png",):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    if complete:
        (folder / "_SUCCESS").touch()
    return folder


def names(complete: list[Span]) -> list[str]:
    return [span.name for span in complete]


def digest(folder: Path, cache: Path) -> str:
    return content_digests([Span("1", 1, folder)], cache)["1"]


def test_spans_come_by_number_and_dates_are_numbers(tmp_path: Path) -> None:
    for name in ("10", "2", "2026-11-20", "2026-02-03"):
        make(tmp_path / name)
    complete = find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)
    assert names(complete) == ["2", "10", "2026-02-03", "2026-11-20"]
    assert [span.number for span in complete] == [2, 10, 20260203, 20261120]
    assert complete[0].folder == tmp_path / "2"
    assert complete[-1].key == "span 2026-11-20"


def test_the_newest_spans_or_those_from_one_on_can_be_chosen(tmp_path: Path) -> None:
    for name in ("1", "2", "3", "4"):
        make(tmp_path / name)
    pattern = f"{tmp_path}/{{SPAN}}"
    assert names(find_spans(pattern, window=2, settle=AGES)) == ["3", "4"]
    assert names(find_spans(pattern, first=3, settle=AGES)) == ["3", "4"]
    assert names(find_spans(pattern, first=2, window=9, settle=AGES)) == ["2", "3", "4"]
    assert names(find_spans(pattern, first=5, settle=AGES)) == []


def test_the_placeholder_may_be_a_part_of_a_name_or_above_others(tmp_path: Path) -> None:
    make(tmp_path / "span-3.d" / "digits")
    make(tmp_path / "3" / "digits")
    (tmp_path / "span-4.d").mkdir()
    (span,) = find_spans(f"{tmp_path}/span-{{SPAN}}.d/digits", settle=AGES)
    assert (span.name, span.folder) == ("3", tmp_path / "span-3.d" / "digits")


def test_a_span_that_is_being_written_is_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "1")
    half = make(tmp_path / "2", complete=False)
    assert names(find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)) == ["1"]
    assert "span 2 is left out: it has no _SUCCESS" in caplog.text
    (half / "_SUCCESS").touch()
    assert names(find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)) == ["1", "2"]


def test_an_unmarked_span_is_complete_after_a_while_without_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path / "1", complete=False) / "train/7/a.png"
    os.utime(path, (0, 0))  # a copy keeps the times of its original; it is new all the same
    pattern, now = f"{tmp_path}/{{SPAN}}", time.time()
    assert names(find_spans(pattern, settle=60.0)) == []
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert names(find_spans(pattern, settle=60.0)) == ["1"]


def test_the_window_counts_complete_spans(tmp_path: Path) -> None:
    make(tmp_path / "1")
    make(tmp_path / "2", complete=False)
    assert names(find_spans(f"{tmp_path}/{{SPAN}}", window=1, settle=AGES)) == ["1"]


def test_markers_hidden_folders_and_files_are_no_spans(tmp_path: Path) -> None:
    for name in ("_3", ".staging"):
        make(tmp_path / name)
    (tmp_path / "README").touch()
    assert find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES) == []


def test_names_that_are_no_spans_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "1")
    for name in ("_3", ".staging", "README", "x\n\udcff"):
        (tmp_path / name).touch()
    assert names(find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)) == ["1"]
    (line,) = caplog.messages
    assert line.startswith(f"data.spans: 4 of the names in {tmp_path} are no spans like")
    assert line.endswith(r"are left out: .staging, README, _3, x\n\udcff")


def test_a_pattern_that_matches_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "span-1")
    assert find_spans(f"{tmp_path}/day-{{SPAN}}", settle=AGES) == []
    assert find_spans(f"{tmp_path}/span-{{SPAN}}/digits", settle=AGES) == []
    assert [line.count("are left out: span-1") for line in caplog.messages] == [1, 1]


@pytest.mark.parametrize(
    "pattern", ["{SPAN}/train/*", "{SPAN}/*", "day-{SPAN}-*", "{SPAN}/t?ain", "{SPAN}/.."]
)
def test_a_pattern_that_cannot_match_is_refused(tmp_path: Path, pattern: str) -> None:
    """TFX's form names files; a folder called * there is none."""
    make(tmp_path / "1")
    with pytest.raises(DataRequestError, match="no folder matches it") as caught:
        find_spans(f"{tmp_path}/{pattern}", settle=AGES)
    assert f"--set data.spans={tmp_path}/{{SPAN}};" in caught.value.hint


@pytest.mark.parametrize("name", ["7/a.png", "a.tfrecord", "Train/7/a.png"])
def test_a_span_that_is_a_split_itself_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="expected the folders train and test, received"):
        check_layout(Span("1", 1, make(tmp_path / "1", "train/8/b.png", name)))


def test_pictures_whose_names_hide_them_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = ("train/7/a.png", "train/7/_DSC1234.png", "train/_old/a.png", "train/7/._a.png")
    folder = make(tmp_path / "1", *files)
    assert left_out(Span("1", 1, folder)) == [
        "train/7/._a.png",
        "train/7/_DSC1234.png",
        "train/_old",
    ]
    assert "span 1: left out for a name that begins with . or _ (3): train/7/._a.png" in caplog.text
    caplog.clear()
    assert left_out(Span("2", 2, make(tmp_path / "2"))) == []
    assert not caplog.text


@pytest.mark.parametrize("name", ["0", "three", "2026-02-30", "2026-2-3", "9" * 19, "²"])
def test_a_name_that_is_no_span_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path / name)
    with pytest.raises(DataError, match="expected a number from 1 on or a date") as caught:
        find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)
    assert repr(name) in str(caught.value)


def test_two_names_of_one_number_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "20261120")
    make(tmp_path / "2026-11-20")
    with pytest.raises(DataError, match="are both span 20261120"):
        find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)


@pytest.mark.parametrize("pattern", ["spans", "{SPAN}/{SPAN}", "spans/{SPAN}/{VERSION}", "{YYYY}"])
def test_a_pattern_without_one_placeholder_is_refused(pattern: str) -> None:
    with pytest.raises(DataRequestError, match=r"expected a path with \{SPAN\} in it once"):
        find_spans(pattern, settle=AGES)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_spans(f"{tmp_path}/nowhere/{{SPAN}}", settle=AGES)


def test_the_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    one = make(tmp_path / "a" / "1", "train/7/a.png", "test/7/b.png")
    other = make(tmp_path / "b" / "9", "test/7/b.png", "train/7/a.png", complete=False)
    (other / "train" / ".DS_Store").touch()
    first = digest(one, tmp_path)
    assert digest(other, tmp_path) == first  # neither place, nor markers, nor times count
    (other / "train/7/a.png").rename(other / "train/7/c.png")
    renamed = digest(other, tmp_path)
    (other / "train/7/c.png").write_bytes(b"another digit")
    assert len({first, renamed, digest(other, tmp_path)}) == 3


def test_a_change_of_equal_size_and_modification_time_is_seen(tmp_path: Path) -> None:
    path = make(tmp_path / "1") / "train/7/a.png"
    before, times = digest(tmp_path / "1", tmp_path), path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_mtime_ns == times.st_mtime_ns
    assert digest(tmp_path / "1", tmp_path) != before


def test_an_unchanged_span_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = make(tmp_path / "1"), time.time_ns()
    first = digest(folder, tmp_path)
    assert not (tmp_path / "spans.json").exists()  # too young: it may change within a clock tick
    monkeypatch.setattr(time, "time_ns", lambda: now + 10**10)
    assert digest(folder, tmp_path) == first
    assert first in json.loads((tmp_path / "spans.json").read_text()).values()
    with monkeypatch.context() as patched:
        patched.setattr(spans, "_content", None)  # would read it
        assert digest(folder, tmp_path) == first
    for damage in ("{", "[]"):
        (tmp_path / "spans.json").write_text(damage)
        assert digest(folder, tmp_path) == first


def test_an_empty_span_is_refused(tmp_path: Path) -> None:
    (make(tmp_path / "1") / "train/7/a.png").unlink()
    with pytest.raises(DataError, match=r"span 1 is empty: .* holds no data"):
        digest(tmp_path / "1", tmp_path)


def test_a_span_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (make(tmp_path / "1") / "train/7/gone.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"span 1 cannot be read: .*gone\.png: No such file"):
        digest(tmp_path / "1", tmp_path)


def test_links_are_followed(tmp_path: Path) -> None:
    """A span, a folder in it or a file may lie elsewhere: it counts as if it lay there."""
    plain = make(tmp_path / "plain", "train/7/a.png", "train/8/b.png")
    store = make(tmp_path / "store", "8/b.png", complete=False)
    linked = make(tmp_path / "linked", complete=False)
    (linked / "train/8").symlink_to(store / "8")
    (linked / "train/7/a.png").rename(store / "a.png")
    (linked / "train/7/a.png").symlink_to(store / "a.png")
    (store / "8/b.png").write_bytes(b"train/8/b.png")
    (tmp_path / "spans").mkdir()
    (tmp_path / "spans/1").symlink_to(linked)
    assert names(find_spans(f"{tmp_path}/spans/{{SPAN}}", settle=0.0)) == ["1"]
    assert digest(tmp_path / "spans/1", tmp_path) == digest(plain, tmp_path)
    (store / "8/b.png").write_bytes(b"another digit")
    assert digest(tmp_path / "spans/1", tmp_path) != digest(plain, tmp_path)


def test_what_links_lead_to_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    span = make(tmp_path / "spans/1", complete=False)
    store = make(tmp_path / "store", "8/b.png", complete=False)
    (span / "train/8").symlink_to(store / "8")
    time.sleep(0.1)
    late = store / "8/c.png"
    late.touch()
    now = late.stat().st_ctime + 0.01
    monkeypatch.setattr(time, "time", lambda: now)
    pattern = f"{tmp_path}/spans/{{SPAN}}"
    assert names(find_spans(pattern, settle=0.05)) == []
    late.unlink()
    os.utime(store / "8/b.png")
    now = (store / "8/b.png").stat().st_ctime + 0.06
    assert names(find_spans(pattern, settle=0.05)) == ["1"]


def test_a_link_that_leads_back_is_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "1")
    (folder / "train/7/back").symlink_to(folder)
    with pytest.raises(DataError, match="7/back is a link to a folder that it lies in"):
        digest(folder, tmp_path)
    (folder / "_SUCCESS").unlink()
    with pytest.raises(DataError, match="remove the link"):
        find_spans(f"{tmp_path}/{{SPAN}}", settle=AGES)
