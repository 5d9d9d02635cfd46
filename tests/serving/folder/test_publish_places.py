"""Where a push may go: links, files, folders that vanish, a lock that is held."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bnpipe.data.flock import locked
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import publish, server_files, settle, versions
from bnpipe.serving.folder.server_files import ServerFiles
from tests.serving.folder.served import (
    closed,
    config_of,
    leftovers,
    push,
    saved_model,
    torn,
    visible,
)

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_base_path_that_is_a_link_is_followed_once(
    tmp_path: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk1").mkdir()
    (tmp_path / "disk2").mkdir()
    link = tmp_path / "served"
    link.symlink_to("disk1")

    @contextmanager
    def switch_link(path: Path, *, wait: float) -> Iterator[int | None]:
        with locked(path, wait=wait) as descriptor:
            link.unlink()
            link.symlink_to("disk2")
            yield descriptor

    monkeypatch.setattr(settle, "locked", switch_link)
    push(link, model("a"))
    assert torn(tmp_path / "disk1") == [] and visible(tmp_path / "disk1") == ["1"]
    assert list((tmp_path / "disk2").iterdir()) == []
    assert config_of(tmp_path / "disk1").base_path == str(tmp_path / "disk1")


def test_a_base_path_that_leads_nowhere_is_refused(tmp_path: Path, model: MakeModel) -> None:
    link = tmp_path / "served"
    link.symlink_to(tmp_path / "unmounted")
    with pytest.raises(ServingError, match=r"is a link to .*unmounted, which does not exist"):
        push(link, model("a"))
    assert not (tmp_path / "unmounted").exists()


def test_a_base_path_that_is_a_file_is_refused(tmp_path: Path, model: MakeModel) -> None:
    (tmp_path / "served").touch()
    with pytest.raises(ServingError, match="expected a folder, received the file"):
        push(tmp_path / "served", model("a"), compared_with=None)
    with pytest.raises(ServingError, match="expected a readable folder"):
        versions.live(tmp_path / "served")


def test_a_linked_version_is_not_taken_for_one(base: Path, model: MakeModel) -> None:
    push(base, model("a"))
    (base / "5").symlink_to(model("elsewhere"))
    assert versions.complete_versions(base) == [1]
    assert push(base, model("b")).version == 6


def test_a_base_path_that_vanishes_during_a_push_is_not_made_anew(
    three: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmount(source: Path, target: Path) -> None:
        three.rename(three.with_name("gone"))
        real(source, target)

    real = publish.copy_tree
    monkeypatch.setattr(publish, "copy_tree", unmount)
    with pytest.raises(ServingError, match="cannot write to the served folder"):
        push(three, model("d"))
    assert not three.exists()
    monkeypatch.undo()
    three.with_name("gone").rename(three)
    assert versions.live(three) == 3
    assert push(three, saved_model(three.parent / "e", "e")).version == 4
    assert leftovers(three) == []


def test_a_held_lock_is_waited_for_and_then_named(
    three: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "LOCK_WAIT_SECONDS", 0.15)
    with (
        settle.writing(three),
        pytest.raises(ServingError, match=r"another process is publishing to .*fuser"),
    ):
        push(three, model("d"))
    assert push(three, saved_model(three.parent / "e", "e")).version == 4


def test_what_others_read_does_not_depend_on_the_umask(base: Path, model: MakeModel) -> None:
    old = os.umask(0o077)
    try:
        push(base, model("a"))
        server_files.write(base, ServerFiles())
        push(base, model("b"))
    finally:
        os.umask(old)
    assert {".lock", "ledger.jsonl", "provenance", "manifests"} < {p.name for p in base.iterdir()}
    assert closed([base.parent, base, *base.rglob("*")]) == []


def test_who_may_write_to_a_shared_folder_may_publish_there(base: Path, model: MakeModel) -> None:
    base.mkdir(parents=True)
    base.chmod(0o2770)
    old = os.umask(0o077)
    try:
        push(base, model("a"))
    finally:
        os.umask(old)
    for name in (".lock", "ledger.jsonl", "provenance", "manifests"):
        assert (base / name).stat().st_mode & 0o060 == 0o060, name
    assert base.stat().st_mode & 0o7777 == 0o2770  # what its owner chose
