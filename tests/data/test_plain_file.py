"""What may lie where a file is expected: nobody waits for it."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data.digest import file_sha256
from bnpipe.data.plain_file import flaw, listed, open_plain, read_plain, tree


def test_a_file_is_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_plain(tmp_path / name) as stream:
            assert stream.read() == b"content"
        assert read_plain(tmp_path / name) == b"content"


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(tmp_path / "socket"))
    for path, received in {
        tmp_path / "pipe": "expected a file with data, received a named pipe",
        tmp_path / "to pipe": "expected a file with data, received a named pipe",
        tmp_path / "folder": "expected a file with data, received a folder",
        tmp_path / "socket": "No such device or address",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / "nothing": "No such file or directory",
        Path("/dev/zero"): "expected a file with data, received a device",
    }.items():
        for read in (open_plain, read_plain, file_sha256):
            with pytest.raises(OSError, match=received) as caught:
                read(path)
            assert caught.value.filename == os.fspath(path)


def test_a_file_that_is_nearly_all_hole_is_none(tmp_path: Path) -> None:
    """To hash a tebibyte of nothing takes an hour, to read it more memory than there is."""
    hollow = tmp_path / "hollow"
    hollow.touch()
    os.truncate(hollow, 1 << 40)
    assert flaw(hollow.stat(), hollow).startswith(
        "1,099,511,627,776 bytes of which the disk holds 0"
    )
    with pytest.raises(OSError, match="expected a file with data, received 1,099,511,627,776"):
        file_sha256(hollow)
    os.truncate(hollow, 1 << 20)
    assert flaw(hollow.stat(), hollow) == ""


@pytest.mark.parametrize("call", [listed, lambda folder: list(tree(folder.parent))])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(
    call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def lists(path: Any = ".") -> Any:
            if os.fspath(path) == str(folder):
                raise OSError(errno.EIO, "Input/output error", str(folder))
            return real(path)

        return lists

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    with pytest.raises(OSError, match="Input/output error"):
        call(folder)


def test_a_folder_is_listed_by_name_and_one_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").touch()
    (tmp_path / "a").symlink_to(tmp_path)
    assert [path.name for path in listed(tmp_path)] == ["a", "b"]
    assert [path.name for path in tree(tmp_path)] == ["a", "b", "c"]
    assert listed(tmp_path / "none") == []
