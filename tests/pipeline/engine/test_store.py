"""The store: what a commit leaves, and how damage of every kind is told."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from bnpipe.components.artifacts import Artifact, ArtifactError, Model, Verdict
from bnpipe.pipeline.engine import store as module
from bnpipe.pipeline.engine.errors import ConfigError, ExitCode, StoreError
from bnpipe.pipeline.engine.lock import try_lock
from bnpipe.pipeline.engine.manifest import describe
from bnpipe.pipeline.engine.store import StepRecord, Store
from bnpipe.serving.export.digest import tree_digest


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "home")
    made.prepare()
    return made


def staged(store: Store, files: dict[str, str], kind: type[Artifact] = Artifact) -> Artifact:
    store.unstage("0001", "step")
    folder = store.stage("0001", "step", 1, "made")
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return kind("step.made", folder)


def record_of(**outputs: str) -> StepRecord:
    return StepRecord(
        key="k" * 64,
        name="step",
        component="step",
        outputs=outputs,
        facts={"n": 1},
        verdict=Verdict(True, "fine"),
        parts={"params": {}},
        run="0001",
        seconds=1.5,
        finished=2.5,
    )


FILES = {"a.txt": "seven", "deep/b.txt": "eight"}


def test_a_commit_is_found_again_whole(store: Store) -> None:
    manifest = store.commit_object(staged(store, FILES))
    folder = store.object_path(manifest.digest)
    assert folder == store.home / "objects" / manifest.digest[:2] / manifest.digest
    assert {n: (folder / n).read_text() for n in FILES} == FILES
    assert store.manifest(manifest.digest) == manifest
    assert manifest.size == 10
    assert store.faults(manifest.digest, deep=True) == []
    store.commit_step(record_of(made=manifest.digest))
    assert store.lookup("k" * 64) == record_of(made=manifest.digest)
    assert list(store.digests()) == [manifest.digest]


def test_equal_content_is_kept_once_and_keeps_its_first_files(store: Store) -> None:
    first = store.commit_object(staged(store, FILES))
    inode = (store.object_path(first.digest) / "a.txt").stat().st_ino
    again = staged(store, FILES)
    assert store.commit_object(again) == first
    assert (store.object_path(first.digest) / "a.txt").stat().st_ino == inode
    assert not again.path.exists()


@pytest.mark.parametrize(
    "files",
    [
        {"a.txt": "seven!", "deep/b.txt": "eight"},
        {"a.txt": "SEVEN", "deep/b.txt": "eight"},
        {"a.txt": "seven", "b.txt": "eight"},
        {"a.txt": "seven"},
    ],
)
def test_the_digest_covers_names_sizes_and_bytes(store: Store, files: dict[str, str]) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    assert store.commit_object(staged(store, files)).digest != digest


def test_the_kind_is_part_of_the_digest_and_dates_are_not(store: Store) -> None:
    plain = staged(store, FILES)
    before = describe(plain)
    os.utime(plain.path / "a.txt", (1, 1))
    assert describe(plain) == before
    assert describe(Model("step.made", plain.path)).digest != before.digest


def test_committed_files_are_read_only(store: Store) -> None:
    folder = store.object_path(store.commit_object(staged(store, FILES)).digest)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}
    assert modes == {0o444}


def test_a_damaged_object_is_replaced_when_it_is_made_again(store: Store) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    file = store.object_path(digest) / "a.txt"
    file.chmod(0o644)
    file.write_text("SEVEN")
    assert store.commit_object(staged(store, FILES)).digest == digest
    assert file.read_text() == "seven"
    assert store.faults(digest, deep=True) == []
    # What is left of the staging is an empty folder, nothing of the damaged bytes.
    assert [p for p in (store.home / "tmp").rglob("*") if p.is_file()] == []


def test_the_same_from_two_runs_at_once_is_kept_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [staged(store, FILES), Artifact("twin.made", store.stage("0002", "twin", 1, "made"))]
    shutil.copytree(both[0].path, both[1].path, dirs_exist_ok=True)
    others = iter(both[1:])

    def beaten(folder: Path) -> None:
        if (other := next(others, None)) is not None:  # after the look into the store
            store.commit_object(other)
        make_durable(folder)

    make_durable = module._make_durable
    monkeypatch.setattr(module, "_make_durable", beaten)
    digest = store.commit_object(both[0]).digest
    assert store.faults(digest, deep=True) == [] and list(store.digests()) == [digest]
    assert not any(artifact.path.exists() for artifact in both)


def test_two_runs_that_meet_the_same_damage_mend_it_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    damage(store, digest, "other bytes")
    mine = staged(store, FILES)
    other = Artifact("twin.made", store.stage("0002", "twin", 1, "made"))
    shutil.copytree(mine.path, other.path, dirs_exist_ok=True)
    inodes: list[int] = []

    def beaten(path: Path, **options: Any) -> Any:
        if path.name == digest and not inodes:  # after it was seen to be damaged
            inodes.append(0)
            store.commit_object(other)
            inodes[0] = (store.object_path(digest) / "a.txt").stat().st_ino
        return try_lock(path, **options)

    monkeypatch.setattr(module, "try_lock", beaten)
    assert store.commit_object(mine).digest == digest
    assert store.faults(digest, deep=True) == []
    # Whoever reads what the other one has put there goes on reading it.
    assert (store.object_path(digest) / "a.txt").stat().st_ino == inodes[0]
    assert [p for p in (store.home / "tmp").rglob("*") if p.is_file()] == []


def damage(store: Store, digest: str, how: str) -> None:
    file = store.object_path(digest) / "a.txt"
    manifest = store.object_path(digest) / "manifest.json"
    for path in (file, manifest):
        path.chmod(0o644)
    match how:
        case "shorter":
            file.write_text("s")
        case "other bytes":
            file.write_text("SEVEN")
        case "missing file":
            file.unlink()
        case "no manifest":
            manifest.unlink()
        case "torn manifest":
            manifest.write_text(manifest.read_text()[:40])
        case "another manifest":
            value = json.loads(manifest.read_text())
            value["files"][0]["sha256"] = "0" * 64
            manifest.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("shorter", r"a\.txt has 1 bytes, expected 5"),
        ("missing file", r"a\.txt is missing"),
        ("no manifest", r"manifest\.json cannot be read"),
        ("torn manifest", r"manifest\.json cannot be read"),
        ("another manifest", r"manifest\.json has digest"),
    ],
)
def test_damage_is_told_without_hashing(store: Store, how: str, told: str) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    store.commit_step(record_of(made=digest))
    damage(store, digest, how)
    with pytest.raises(StoreError, match=told) as caught:
        store.lookup("k" * 64)
    assert caught.value.exit_code is ExitCode.STORE
    assert caught.value.hint.startswith("`bnpipe gc --verify --yes`")
    assert len(str(caught.value).splitlines()) == 1


def test_other_bytes_of_the_same_length_are_found_by_hashing(store: Store) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    damage(store, digest, "other bytes")
    assert store.faults(digest, deep=False) == []
    assert store.faults(digest, deep=True) == ["a.txt has other bytes than were written"]
    with pytest.raises(StoreError, match="other bytes"):
        store.require(digest, deep=True)


def test_a_missing_object_is_a_miss_not_an_error(store: Store) -> None:
    assert store.lookup("k" * 64) is None
    store.commit_step(record_of(made="0" * 64))
    assert store.lookup("k" * 64) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": 1, "verdict": null}', "\x00\xff"])
def test_an_unreadable_step_record_says_how_to_go_on(store: Store, text: str) -> None:
    path = store.home / "steps" / ("k" * 64 + ".json")
    path.write_text(text)
    with pytest.raises(StoreError, match=f"rm {path}"):
        store.lookup("k" * 64)
    assert list(store.records()) == []


def test_quarantine_keeps_the_bytes_and_frees_the_name(store: Store) -> None:
    digest = store.commit_object(staged(store, FILES)).digest
    for _ in range(2):  # a second time under the same name
        damage(store, digest, "other bytes")
        assert (store.quarantine(digest) / "a.txt").read_text() == "SEVEN"
        assert list(store.digests()) == []
        assert store.commit_object(staged(store, FILES)).digest == digest


def test_only_plain_files_are_taken(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("x")

    def link(path: Path) -> None:
        path.symlink_to(outside / "x")

    def folder_link(path: Path) -> None:
        path.symlink_to(outside)

    def dangling(path: Path) -> None:
        path.symlink_to(outside / "nothing")

    for number, make in enumerate((link, folder_link, dangling, os.mkfifo)):
        artifact = staged(store, FILES)
        make(artifact.path / f"odd{number}")
        with pytest.raises(ArtifactError, match=rf"step\.made holds odd{number}"):
            store.commit_object(artifact)
    assert list(store.digests()) == []


def test_the_name_of_the_manifest_is_taken(store: Store) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        store.commit_object(staged(store, {**FILES, "manifest.json": "{}"}))


MODEL = {
    "saved_model/saved_model.pb": "graph",
    "saved_model/variables/variables.index": "index",
    "saved_model/fingerprint.pb": "random",
    "history.json": "[]",
}


def test_undigested_files_are_kept_and_checked_but_not_in_the_digest(store: Store) -> None:
    digest = store.commit_object(staged(store, MODEL, Model)).digest
    other = describe(staged(store, {**MODEL, "saved_model/fingerprint.pb": "ran"}, Model))
    assert other.digest == digest
    kept = store.object_path(digest) / "saved_model" / "fingerprint.pb"
    assert kept.read_text() == "random"
    kept.unlink()
    assert store.faults(digest, deep=False) == ["saved_model/fingerprint.pb is missing"]


def test_the_served_digest_is_that_of_the_served_folder(store: Store) -> None:
    manifest = store.commit_object(staged(store, MODEL, Model))
    folder = store.object_path(manifest.digest) / "saved_model"
    assert manifest.subtree_digest("saved_model") == tree_digest(folder)


def test_record_counts_are_in_the_manifest(store: Store) -> None:
    class Counted(Artifact):
        def record_counts(self) -> dict[str, int]:
            return {"a.txt": 3}

    entries = {f.path: f.records for f in describe(staged(store, FILES, Counted)).files}
    assert entries == {"a.txt": 3, "deep/b.txt": None}


@pytest.mark.parametrize("found", ["2\n", "next", "", "-1", "²"])
def test_a_store_of_another_format_is_refused(tmp_path: Path, found: str) -> None:
    (tmp_path / "format").write_text(found)
    with pytest.raises(StoreError, match="this bnpipe knows up to 1; upgrade bnpipe"):
        Store(tmp_path)


def test_reading_a_home_that_is_not_there_makes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "none")
    assert store.lookup("k") is None
    assert list(store.digests()) == list(store.records()) == []
    assert not store.home.exists()


def test_cleaning_removes_what_killed_runs_left(store: Store) -> None:
    leftovers: list[Any] = [
        store.home / "tmp" / "0001-step" / "1" / "made" / "a.txt",
        store.locks / "runs" / "0001",
        store.locks / "steps" / ("k" * 64),
        store.home / "steps" / ".staging-1",
        store.home / "runs" / "0001" / ".staging-2",
        store.home / "cache" / ".staging-3",
        store.scratch("unfinished") / ".staging-4",
        store.scratch("k" * 64) / "checkpoint",
    ]
    kept = store.scratch("unfinished") / "checkpoint"
    for path in (*leftovers, kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    store.commit_step(record_of())
    store.prepare()
    assert all(p.exists() for p in leftovers)  # they may be a living run's
    store.clean()
    assert [p for p in leftovers if p.exists()] == []
    assert kept.exists()


@pytest.mark.parametrize("name", ["tmp", "scratch"])
def test_a_folder_of_somebody_is_not_cleared_because_it_was_named_as_home(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match=rf"{name} was not made by bnpipe.*BNPIPE_HOME"):
        Store(tmp_path).prepare()
    assert (tmp_path / name / "thesis.txt").read_text() == "mine"
    (tmp_path / name / "thesis.txt").unlink()
    Store(tmp_path).prepare()  # an empty one, as a run that is killed at once leaves it
