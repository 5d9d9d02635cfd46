"""Files are replaced whole or not at all, whatever the writer's umask is."""

import errno
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data.durable import (
    copy_tree,
    is_foreign,
    make_folder,
    replace_text,
    replacing,
    write_all,
)


def test_the_old_content_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as descriptor:
        write_all(descriptor, b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as descriptor:
        write_all(descriptor, b"ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        replace_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_everyone_can_read_it_for_servers_run_as_another_user(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_text(tmp_path / "a.txt", "new")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644


def test_what_is_durable_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def note(name: str) -> None:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            calls.append(name)
            return real(*args)

        monkeypatch.setattr(os, name, call)

    for name in ("write", "fsync", "replace"):
        note(name)
    replace_text(tmp_path / "a.txt", "new")
    assert calls == ["write", "fsync", "replace", "fsync"]  # the last one is the folder's
    calls.clear()
    replace_text(tmp_path / "a.txt", "newer", durable=False)
    assert calls == ["write", "replace"]


def test_a_full_disk_is_told_with_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store/saved_model.pb").write_text("graph")

    def full(source: str, target: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), source, None, str(target))

    monkeypatch.setattr(shutil, "copyfile", full)  # which names what it reads
    with pytest.raises(OSError, match="No space") as raised:
        copy_tree(tmp_path / "store", tmp_path / "served")
    assert raised.value.filename == str(tmp_path / "served/saved_model.pb")


def test_folders_are_made_readable_by_everyone_and_a_file_in_their_place_is_told(
    tmp_path: Path,
) -> None:
    before = os.umask(0o077)
    try:
        make_folder(tmp_path / "a/b")
        make_folder(tmp_path / "a/b")
    finally:
        os.umask(before)
    assert [(tmp_path / p).stat().st_mode & 0o777 for p in ("a", "a/b")] == [0o755, 0o755]
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_a_folder_that_a_group_shares_makes_folders_that_it_shares(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    before = os.umask(0o002)
    try:
        make_folder(shared / "served" / "mnist")
    finally:
        os.umask(before)
    assert stat.S_IMODE((shared / "served" / "mnist").stat().st_mode) == 0o2775


def test_a_pipe_in_the_place_of_a_file_of_ours_is_foreign_and_not_waited_for(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "compose.yaml")
    assert is_foreign(tmp_path / "compose.yaml", re.compile("ours"))
