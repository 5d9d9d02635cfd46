"""A served folder mirrored to an object store: order, kills, faults."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, ledger, object_store, server_files
from bnpipe.serving.folder import publish as publish_module
from bnpipe.serving.folder.bucket import Bucket, opened
from bnpipe.serving.folder.rollout import Rollout
from bnpipe.serving.folder.server_files import ServerFiles
from tests.serving.folder.object_stores import broken_there, config_there, contents, publish
from tests.serving.folder.served import leftovers, push, torn

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_push_is_there_with_its_records_and_the_config_names_the_url(
    base: Path, url: str, model: MakeModel
) -> None:
    assert publish(base, url, model("a")) == 1
    server_files.write(base, ServerFiles())
    assert publish(base, url, model("b")) == 2
    objects = contents(url)
    for name in ("monitoring.config", "batching.config"):
        assert objects[name] == (base / name).read_bytes()
    for path in (base / "2").rglob("*.*"):
        assert objects[path.relative_to(base).as_posix()] == path.read_bytes()
    assert config_there(url) == ([1, 2], {"stable": 2})
    assert objects["provenance/2.json"] == (base / "provenance/2.json").read_bytes()
    assert objects["manifests/2.json"] == (base / "manifests/2.json").read_bytes()
    whole = b"".join(v for k, v in sorted(objects.items()) if k.startswith("ledger/"))
    assert whole == (base / ledger.LEDGER).read_bytes()
    assert torn(base) == leftovers(base) == []


def test_the_graph_is_the_last_of_a_version_and_the_config_the_last_of_all(
    base: Path, memory: str, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def note(name: str) -> None:
        real = getattr(MemoryFileSystem, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            order.append(str(args[1] if name == "put_file" else args[0]).partition("/mnist/")[2])
            return real(self, *args, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, name, call)

    note("put_file")
    note("pipe_file")
    publish(base, memory, model("a"))
    assert order[0] == f"ledger/{0:012d}"
    version = [name for name in order if name.startswith("1/")]
    assert [n.startswith("1/variables/") for n in version] == [True, True, False, False]
    assert version[-1] == "1/saved_model.pb" and order[-1] == "models.config"


def test_nothing_is_sent_twice(base: Path, memory: str, model: MakeModel) -> None:
    publish(base, memory, model("a"))
    before = dict(MemoryFileSystem.store)
    assert object_store.is_mirrored(base, memory)
    object_store.mirror(base, memory)
    assert all(MemoryFileSystem.store[name] is file for name, file in before.items())
    push(base, model("b"))
    assert not object_store.is_mirrored(base, memory)


def test_rollback_promote_and_prune_reach_the_store(base: Path, url: str, model: MakeModel) -> None:
    for content in "abcd":
        publish(base, url, model(content))
    rollout = Rollout(base, store=url)
    assert rollout.rollback(reason="bad") == 3
    assert config_there(url) == ([2, 3], {"stable": 3})
    rollout.rollback(reason="bad", to=1)
    rollout.promote(2, label="canary")
    assert config_there(url) == ([1, 2], {"stable": 1, "canary": 2})
    assert rollout.prune(1) == [3]
    assert {name.partition("/")[0] for name in contents(url)} >= {"1", "2", "4"}
    assert not any(name.startswith("3/") for name in contents(url))
    assert {name for name in contents(url) if name.startswith("manifests/")} == {
        f"manifests/{number}.json" for number in (1, 2, 4)
    }


class Killed(BaseException):
    pass


def test_a_version_whose_removal_was_cut_short_stays_in_the_store_and_can_go_live(
    base: Path, url: str, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(folder: Path, version: int) -> None:
        raise Killed

    for content in "abc":
        publish(base, url, model(content))
    rollout = Rollout(base, store=url)
    with monkeypatch.context() as patched:
        patched.setattr(publish_module, "discard", die)
        with pytest.raises(Killed):
            rollout.prune(1)
    assert ledger.read(base).removed == {1}
    for live in (2, 1):
        assert rollout.rollback(reason="bad") == live
        assert {"1/saved_model.pb", "manifests/1.json"} <= contents(url).keys()
    assert config_there(url) == ([1], {"stable": 1})


def test_a_version_that_another_home_pruned_can_go_live_where_it_still_is(
    base: Path, url: str, model: MakeModel, tmp_path: Path
) -> None:
    for content in "abc":
        publish(base, url, model(content))
    other = Rollout(tmp_path / "other", store=url)
    object_store.fetch(other.base, url)
    assert Rollout(base, store=url).prune(1) == [1]
    assert "1/saved_model.pb" not in contents(url)
    assert object_store.fetch(other.base, url) == []
    assert [other.rollback(reason="bad") for _ in range(2)] == [2, 1]
    assert {"1/saved_model.pb", "manifests/1.json"} <= contents(url).keys()
    assert object_store.fetch(base, url) == [1]
    assert torn(base) == []


def test_a_home_that_was_overtaken_during_its_upload_takes_nothing_from_the_servers(
    base: Path, url: str, model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any) -> None:
        real(*arguments)
        if arguments[0] == base:  # and the other home goes on from the ledger that is there
            object_store.fetch(other.base, url)
            assert [other.rollback(reason="bad") for _ in range(2)] == [2, 1]

    for content in "abc":
        publish(base, url, model(content))
    other = Rollout(tmp_path / "other", store=url)
    object_store.fetch(other.base, url)
    real = object_store._mirror_records
    monkeypatch.setattr(object_store, "_mirror_records", slowly)
    with pytest.raises(ServingError, match="versions fetch"):
        Rollout(base, store=url).prune(1)
    assert config_there(url) == ([1], {"stable": 1})
    assert "1/saved_model.pb" in contents(url)


def test_a_folder_among_the_manifests_is_left_alone_and_in_nobodys_way(
    base: Path, url: str, model: MakeModel
) -> None:
    for content in "abc":
        publish(base, url, model(content))
    rollout = Rollout(base, store=url)
    assert rollout.prune(1) == [1]
    for name in ("1", "1.sig"):
        (base / "manifests" / name).mkdir()
    assert publish(base, url, model("d")) == 4
    assert rollout.prune(1) == [2]
    assert (base / "manifests/1").is_dir() and (base / "manifests/1.sig").is_dir()


@pytest.mark.parametrize("change", ["first push", "push", "rollback and prune"])
def test_killed_at_every_call_of_the_store_what_is_named_is_whole_and_a_rerun_finishes(
    change: str,
    tmp_path: Path,
    memory: str,
    model: MakeModel,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    """Kills before each call that changes the store; the call before it has been made then."""
    digests = {c: tree_digest(model(c)) for c in "abcd"}
    models = tmp_path / "models"
    template = tmp_path / "template"
    for content in {"first push": "", "push": "a", "rollback and prune": "abcd"}[change]:
        publish(template, memory, models / content)
    there = {name: file.getvalue() for name, file in MemoryFileSystem.store.items()}
    left = [0]

    def strike(name: str) -> None:
        real = getattr(MemoryFileSystem, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                raise Killed
            return real(self, *args, **kwargs)

        monkeypatch.setattr(MemoryFileSystem, name, call)

    for name in ("put_file", "pipe_file", "rm_file"):
        strike(name)

    def run(base: Path) -> None:
        rollout = Rollout(base, store=memory)
        if change == "rollback and prune":
            rollout.rollback(reason="bad", to=3)
            rollout.prune(1)
        else:
            publish(base, memory, models / ("a" if change == "first push" else "b"))

    points = 0
    while True:
        base = tmp_path / f"served{points}"
        if template.exists():
            shutil.copytree(template, base)
        left[0] = 0
        MemoryFileSystem.store.clear()
        with opened(memory) as store:
            for name, content in there.items():
                store.fs.pipe_file(name, content)
        left[0] = points + 1
        try:
            run(base)
        except Killed:
            points += 1
        else:
            break
        left[0] = 0
        assert broken_there(memory, set(digests.values()), tmp_path) == [], f"point {points}"
        run(base)
        assert broken_there(memory, set(digests.values()), tmp_path) == [], f"rerun {points}"
        wanted = {"first push": 1, "push": 2, "rollback and prune": 3}[change]
        assert config_there(memory)[1] == {"stable": wanted}, f"rerun {points}"
        assert object_store.is_mirrored(base, memory)
        with opened(memory) as store:
            stems = {name.partition(".")[0] for name in store.names("manifests")}
            assert stems == {n for n in store.names() if n.isdecimal()}, f"rerun {points}"
    record_property("crash points", points)
    assert points >= {"first push": 8, "push": 8, "rollback and prune": 7}[change]


def test_an_upload_that_was_cut_is_no_version_and_is_done_again(
    base: Path, memory: str, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(base, memory, model("a"))

    def cut(self: Bucket, name: str) -> str:
        return "0" * 64 if "variables.data" in name else real(self, name)

    real = Bucket.sha256
    monkeypatch.setattr(Bucket, "sha256", cut)
    with pytest.raises(ServingError, match=r"expected sha256 .* after the upload, received 0000.*"):
        publish(base, memory, model("b"))
    assert config_there(memory) == ([1], {"stable": 1})
    assert "2/saved_model.pb" not in contents(memory)
    monkeypatch.undo()
    object_store.mirror(base, memory)
    assert config_there(memory) == ([1, 2], {"stable": 2})


def test_a_damaged_ledger_in_the_store_is_told(base: Path, memory: str, model: MakeModel) -> None:
    publish(base, memory, model("a"))
    with opened(memory) as store:
        store.fs.pipe_file(store.path("ledger/000000000005"), b"x")
    with pytest.raises(ServingError, match=r"expected an object \d+, received 000000000005"):
        object_store.check(base, memory)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/mnist", "s3:// needs a package that is not installed; pip install s3fs"),
        ("gs://bucket/mnist", "gs:// needs a package that is not installed; pip install gcsfs"),
        ("nowhere://bucket/mnist", "object store nowhere://bucket/mnist: ValueError: Protocol"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(
    base: Path, url: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ServingError, match=re.escape(message)):
        object_store.check(base, url)


def test_a_store_that_refuses_is_one_line_and_the_folder_goes_on(
    base: Path, memory: str, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Forbidden\nwith many\nlines")

    publish(base, memory, model("a"))
    monkeypatch.setattr(MemoryFileSystem, "put_file", refuse)
    with pytest.raises(ServingError, match=r"PermissionError: Forbidden; what is live there") as e:
        publish(base, memory, model("b"))
    assert "\n" not in str(e.value)
    assert labels.rollback_target(base, None) == 1
    assert json.loads((base / ".mirrored.json").read_text())["url"] == memory
