"""What may lie where a file is expected: nobody waits for it."""

import os
import socket
import stat
from pathlib import Path

import pytest

from bnpipe.data.digest import file_sha256
from bnpipe.data.plain_file import kind_of, open_plain


def test_a_file_is_read_through_links_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_plain(tmp_path / name) as stream:
            assert stream.read() == b"content"


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(tmp_path / "socket"))
    for path, received in {
        tmp_path / "pipe": "expected a file, received a named pipe",
        tmp_path / "to pipe": "expected a file, received a named pipe",
        tmp_path / "folder": "expected a file, received a folder",
        tmp_path / "socket": "No such device or address",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / "nothing": "No such file or directory",
        Path("/dev/zero"): "expected a file, received a device",
    }.items():
        for read in (open_plain, file_sha256):
            with pytest.raises(OSError, match=received) as caught:
                read(path)
            assert caught.value.filename == os.fspath(path)


def test_kinds_are_called_as_people_call_them() -> None:
    assert kind_of(stat.S_IFDIR | 0o755) == "a folder"
    assert kind_of(stat.S_IFSOCK) == "a socket"
    assert kind_of(0) == "something unknown"
