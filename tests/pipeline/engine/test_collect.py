"""gc: what it keeps, what it finds damaged, and that it never breaks a store."""

import errno
import os
import platform
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from bnpipe.pipeline.champion import runs_behind
from bnpipe.pipeline.engine.collect import collect, drop_runs, find_damage, find_garbage, set_aside
from bnpipe.pipeline.engine.errors import LockHeld
from bnpipe.pipeline.engine.lock import run_locks
from bnpipe.pipeline.engine.plan import Selection
from bnpipe.pipeline.engine.runs import summaries
from tests.pipeline.toy_home import ToyHome, actions, files_below, flip, object_of, outputs


@pytest.fixture
def toy(tmp_path: Path) -> ToyHome:
    made = ToyHome(tmp_path)
    for rate in (1, 2, 3):
        made.run(rate=rate)
    return made


def test_the_newest_runs_keep_all_they_used(toy: ToyHome) -> None:
    assert find_garbage(toy.store, 3).objects == ()
    collect(toy.store, 1)
    kept = dict.fromkeys(("source", "train", "twin", "judge"), "cached")
    assert actions(toy.run(rate=3)) == {**kept, "pusher": "keep"}
    assert actions(toy.run(rate=1))["train"] == "run"


def test_what_is_removed_is_what_was_told(toy: ToyHome) -> None:
    garbage = find_garbage(toy.store, 1)
    # Two models with their blessings, and what was pushed.
    assert len(garbage.objects) == 6
    before = sum(len(c) for _, c in files_below(toy.home / "objects").values())
    collect(toy.store, 1)
    after = sum(len(c) for _, c in files_below(toy.home / "objects").values())
    assert before - after == garbage.size > 0
    assert find_garbage(toy.store, 1).objects == ()
    assert list((toy.home / "tmp").iterdir()) == []


def test_finding_changes_nothing(toy: ToyHome) -> None:
    before = files_below(toy.home, toy.served)
    find_garbage(toy.store, 1, runs_behind(toy.home, toy.served))
    find_damage(toy.store)
    assert files_below(toy.home, toy.served) == before


def test_runs_behind_served_versions_keep_what_they_used(toy: ToyHome) -> None:
    assert runs_behind(toy.home, toy.served) == {"0001", "0002", "0003"}
    assert find_garbage(toy.store, 1, runs_behind(toy.home, toy.served)).objects == ()
    some = find_garbage(toy.store, 1, {"0001"})
    assert 0 < len(some.objects) < len(find_garbage(toy.store, 1).objects)


def test_a_version_that_was_put_there_by_hand_pins_nothing(toy: ToyHome) -> None:
    shutil.copytree(toy.served / "1", toy.served / "9")
    assert runs_behind(toy.home, toy.served) == {"0001", "0002", "0003"}


def test_an_input_from_an_older_run_is_kept(toy: ToyHome) -> None:
    source = object_of(toy.run(Selection(to="source")), toy, "source")
    toy.run(rate=4)
    collect(toy.store, 1)
    assert source.is_dir()


def test_what_a_killed_run_finished_is_kept(toy: ToyHome) -> None:
    child = toy.child(rate=7, TOY_KILL="judge")
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    collect(toy.store, 1)
    assert actions(toy.run(rate=7))["train"] == "cached"


def test_checkpoints_go_when_nobody_came_back_for_a_week(toy: ToyHome) -> None:
    week = time.time() - 8 * 24 * 3600
    needed = toy.plan(rate=3).steps[1].key
    for key, date in {"new": None, "old": week, needed: week}.items():
        file = toy.home / "scratch" / str(key) / "deep" / "checkpoint"
        file.parent.mkdir(parents=True)
        file.write_text("half")
        for path in (file, file.parent, file.parent.parent):
            os.utime(path, (date, date) if date else None)
    assert find_garbage(toy.store, 3).scratch == (("old", 4),)
    assert collect(toy.store, 3).size == 4
    assert not (toy.home / "scratch" / "old").exists() and (toy.home / "scratch" / "new").exists()


def test_nothing_is_collected_while_a_run_is_at_work(toy: ToyHome) -> None:
    before = files_below(toy.home / "objects")
    with run_locks(toy.home) as locks:
        locks.begin("0007")
        who = rf"process {os.getpid()} on {platform.node()} \(run 0007\)"
        for refused in (collect, drop_runs):
            with pytest.raises(LockHeld, match=who):
                refused(toy.store, 1)
        with pytest.raises(LockHeld, match=who):
            set_aside(toy.store)
    assert files_below(toy.home / "objects") == before


def test_an_empty_home_has_neither_garbage_nor_damage(tmp_path: Path) -> None:
    store = ToyHome(tmp_path / "new").store
    assert find_garbage(store, 1).objects == () and find_damage(store) == {}
    assert collect(store, 1).objects == () and set_aside(store) == {}
    assert not store.home.exists()


def test_folders_that_may_be_deleted_are_not_missed(toy: ToyHome) -> None:
    for name in ("tmp", "scratch", "cache"):
        shutil.rmtree(toy.home / name)
    assert len(collect(toy.store, 1).objects) == 6
    assert find_damage(toy.store) == {}


def test_damage_is_found_set_aside_and_made_anew(toy: ToyHome) -> None:
    last = toy.run(rate=3)
    folder = object_of(last, toy, "train")
    flip(folder / "training.weights.h5")
    found = find_damage(toy.store)
    assert found == {folder.name: ["training.weights.h5 has other bytes than were written"]}
    assert set_aside(toy.store) == found
    assert find_damage(toy.store) == {}
    assert (toy.home / "quarantine" / folder.name / "training.weights.h5").exists()
    again = toy.run(rate=3)
    assert actions(again)["train"] == "run" and actions(again)["source"] == "cached"
    assert outputs(again) == outputs(last)


def test_every_kind_of_damage_is_found(toy: ToyHome) -> None:
    digests = list(toy.store.digests())
    folders = [toy.store.object_path(d) for d in digests[:3]]
    os.unlink(folders[0] / "manifest.json")
    flip(folders[1] / "manifest.json")
    file = next(p for p in folders[2].rglob("*") if p.is_file() and p.name != "manifest.json")
    file.unlink()
    assert set(find_damage(toy.store)) == set(digests[:3])


def test_a_kill_in_the_middle_leaves_a_store_that_works(toy: ToyHome) -> None:
    child = os.fork()
    if child == 0:
        removed = 0

        def remove_some(path: Path) -> None:
            nonlocal removed
            removed += 1
            if removed == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        from bnpipe.pipeline.engine import collect as module

        module.remove_tree = remove_some
        try:
            collect(toy.store, 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert find_damage(toy.store) == {}
    records = list(toy.store.records())
    assert all(toy.store.lookup(r.key) for r in records)
    assert actions(toy.run(rate=3))["train"] == "cached"
    assert list((toy.home / "tmp").iterdir()) == []
    collect(toy.store, 1)
    assert find_garbage(toy.store, 1).objects == ()
    assert len(list(summaries(toy.store))) == 4


@pytest.mark.parametrize("folder", ["runs", "steps", "objects"])
def test_what_cannot_be_listed_is_no_garbage_and_names_none(
    toy: ToyHome, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(files_below(toy.home / "steps")) | set(files_below(toy.home / "objects"))

    def failing(real: Any) -> Any:
        def lists(path: Any = ".") -> Any:
            if os.fspath(path) == str(toy.home / folder):
                raise PermissionError(errno.EACCES, "no", os.fspath(path))  # 3.11's glob hides it
            return real(path)

        return lists

    with monkeypatch.context() as patch, pytest.raises(OSError, match=folder):
        for name in ("listdir", "scandir"):
            patch.setattr(os, name, failing(getattr(os, name)))
        collect(toy.store, 1)
    assert before == {*files_below(toy.home / "steps"), *files_below(toy.home / "objects")}
