"""Several homes and one object store: who comes later, who comes at once, what was lost."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import ledger, object_store, versions
from bnpipe.serving.folder.bucket import Bucket, opened
from bnpipe.serving.folder.rollout import Rollout
from tests.serving.folder.object_stores import config_there, contents, publish
from tests.serving.folder.served import closed, leftovers, push, saved_model, torn, visible

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_home_that_never_saw_the_store_takes_it_over_first(
    base: Path, url: str, model: MakeModel, tmp_path: Path
) -> None:
    publish(base, url, model("a"))
    publish(base, url, model("b"))
    Rollout(base, store=url).rollback(reason="bad")
    other = tmp_path / "other"
    with pytest.raises(ServingError, match=r"has changes of another home; .*versions fetch"):
        publish(other, url, model("c"))
    assert object_store.fetch(other, url) == [1, 2]
    assert versions.live(other) == 1 and visible(other) == ["1", "2"]
    assert object_store.is_mirrored(other, url)
    assert torn(other) == leftovers(other) == []
    assert (other / ledger.LEDGER).read_bytes() == (base / ledger.LEDGER).read_bytes()
    assert (other / "manifests/2.json").read_bytes() == (base / "manifests/2.json").read_bytes()
    with pytest.raises(ServingError, match="held back"):
        push(other, tmp_path / "models/b")
    assert publish(other, url, saved_model(tmp_path / "c2", "c2")) == 3
    with pytest.raises(ServingError, match="has changes of another home"):
        Rollout(base, store=url).rollback(reason="bad")
    assert object_store.fetch(base, url) == [3]
    assert object_store.fetch(base, url) == []
    assert versions.live(base) == 3


def test_names_that_lead_out_of_the_folder_are_refused(
    base: Path, memory: str, model: MakeModel, tmp_path: Path
) -> None:
    publish(base, memory, model("a"))
    with opened(memory) as store:
        store.fs.pipe_file(store.path("1/../../../escaped"), b"x")
    with pytest.raises(ServingError, match=r"escaped: expected an object below"):
        object_store.fetch(tmp_path / "other", memory)
    assert not list(tmp_path.rglob("escaped"))


def test_a_home_that_is_ahead_of_the_store_has_nothing_to_fetch(
    base: Path, url: str, model: MakeModel
) -> None:
    publish(base, url, model("a"))
    push(base, model("b"))
    assert object_store.fetch(base, url) == []
    assert versions.live(base) == 2 and config_there(url) == ([1], {"stable": 1})
    assert not object_store.is_mirrored(base, url)


def test_of_two_homes_that_publish_at_once_one_is_refused(
    base: Path, url: str, model: MakeModel, tmp_path: Path
) -> None:
    publish(base, url, model("a"))
    other = tmp_path / "other"
    object_store.fetch(other, url)
    # Both have looked, both have published at home; the second comes too late.
    push(base, model("b"))
    push(other, model("c"))
    object_store.mirror(base, url)
    with pytest.raises(ServingError, match=r"changed by two homes at the same time; move .* away"):
        object_store.mirror(other, url)
    with pytest.raises(ServingError, match="changed by two homes"):
        object_store.fetch(other, url)
    assert config_there(url) == ([1, 2], {"stable": 2})
    assert contents(url)["2/saved_model.pb"] == (base / "2/saved_model.pb").read_bytes()


def test_who_finds_the_ledger_object_taken_is_refused(
    base: Path, memory: str, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival comes between our look and our claim."""

    def late(self: Bucket) -> bytes:
        lines = real(self)
        self.fs.pipe_file(self.path(f"ledger/{len(lines):012d}"), b"{}\n")
        return lines

    real = Bucket.ledger
    publish(base, memory, model("a"))
    push(base, model("b"))
    monkeypatch.setattr(Bucket, "ledger", late)
    with pytest.raises(ServingError, match="has changes of another home"):
        object_store.mirror(base, memory)
    assert config_there(memory) == ([1], {"stable": 1})


def test_what_was_lost_here_is_not_taken_from_the_servers(
    base: Path, url: str, model: MakeModel
) -> None:
    publish(base, url, model("a"))
    publish(base, url, model("b"))
    shutil.rmtree(base / "2")
    with pytest.raises(ServingError, match=r"v2 is live, but is not whole in .*versions fetch"):
        object_store.mirror(base, url)
    assert object_store.fetch(base, url) == [2]
    object_store.mirror(base, url)
    assert config_there(url) == ([1, 2], {"stable": 2})


def test_damaged_bytes_in_the_store_are_not_fetched(
    base: Path, memory: str, model: MakeModel, tmp_path: Path
) -> None:
    publish(base, memory, model("a"))
    with opened(memory) as store:
        store.fs.pipe_file(store.path("1/saved_model.pb"), b"other")
    other = tmp_path / "other"
    with pytest.raises(ServingError, match=r"/1 is damaged: expected digest"):
        object_store.fetch(other, memory)
    assert versions.live(other) is None


def test_what_is_taken_over_is_readable_by_servers_whatever_the_umask(
    base: Path, url: str, model: MakeModel, tmp_path: Path
) -> None:
    publish(base, url, model("a"))
    old = os.umask(0o077)
    try:
        object_store.fetch(tmp_path / "new" / "other", url)
    finally:
        os.umask(old)
    other = tmp_path / "new" / "other"
    assert closed([other.parent, other, *other.rglob("*")]) == []
