"""What publishing, rolling back, promoting and pruning leave in the served folder."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import pytest

from serving import ledger, model_config, publish, settle, versions
from serving.errors import ServingError
from tests.serving.served import events, leftovers, push, saved_model, torn, visible

MakeModel = Callable[[str], Path]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here pulls the plug; those that do are in test_publish_faults.py."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "served" / "mnist"


@pytest.fixture
def model(tmp_path: Path) -> MakeModel:
    return lambda content: saved_model(tmp_path / "models" / content, content)


@pytest.fixture
def three(base: Path, model: MakeModel) -> Path:
    for content in "abc":
        push(base, model(content))
    return base


def config_of(base: Path) -> Any:
    """models.config as TF Serving's own protocol buffer reads it."""
    proto = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    text = (base / model_config.MODELS_CONFIG).read_text()
    parsed = text_format.Parse(text, proto.ModelServerConfig())
    return parsed.model_config_list.config[0]


def served(base: Path) -> tuple[list[int], dict[str, int]]:
    """Versions and labels of models.config."""
    config = config_of(base)
    return list(config.model_version_policy.specific.versions), dict(config.version_labels)


# ------------------------------------------------------------------------------ publish


def test_a_version_holds_the_model_at_its_top_readable_by_any_server(
    base: Path, model: MakeModel
) -> None:
    source = model("a")
    for path in source.rglob("*"):
        path.chmod(0o500 if path.is_dir() else 0o400)
    old = os.umask(0o077)
    try:
        published = push(base, source)
    finally:
        os.umask(old)
    assert published.path == base / "1"
    assert versions.tree_digest(base / "1") == versions.tree_digest(source) == published.digest
    assert (base / "1" / "fingerprint.pb").exists() and (base / "1" / "assets").is_dir()
    for path in [base / "1", *(base / "1").rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    assert torn(base) == leftovers(base) == []


def test_models_config_is_what_tf_serving_reads(three: Path) -> None:
    config = config_of(three)
    assert config.name == "mnist"
    assert config.base_path == str(three)
    assert config.model_platform == "tensorflow"
    assert served(three) == ([2, 3], {"stable": 3})


def test_an_odd_base_path_survives_in_models_config(tmp_path: Path, model: MakeModel) -> None:
    base = tmp_path / 'a "quoted" \\ päth'
    push(base, model("a"))
    assert config_of(base).base_path == str(base)
    assert versions.live(base) == 1


def test_the_same_bytes_again_are_no_new_version(base: Path, model: MakeModel) -> None:
    source = model("a")
    assert push(base, source).new is True
    before = (base / ledger.LEDGER).read_bytes()
    again = push(base, source)
    assert (again.version, again.new) == (1, False)
    assert (base / ledger.LEDGER).read_bytes() == before


def test_pushes_within_one_second_and_a_clock_set_back_only_count_upwards(
    base: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([2026, 2026, 2026, 2026, 1970, 1970])

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(next(clock), 1, 1, tzinfo=UTC)

    monkeypatch.setattr(ledger, "datetime", Clock)
    assert [push(base, model(c)).version for c in "abc"] == [1, 2, 3]
    assert versions.live(base) == 3


@pytest.mark.parametrize(
    ("name", "number"),
    [("007", 8), ("+7", 8), (" 7", 8), ("7 ", 8), ("-7", 1), ("0", 1), ("7.tmp", 1)],
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_hand_made_names_use_up_their_numbers(
    base: Path, model: MakeModel, name: str, number: int, kind: str
) -> None:
    base.mkdir(parents=True)
    (base / name).mkdir() if kind == "folder" else (base / name).touch()
    assert push(base, model("a")).version == number
    assert versions.live(base) == number
    assert (base / name).exists()


def test_a_file_named_like_the_next_version_is_stepped_over(base: Path, model: MakeModel) -> None:
    push(base, model("a"))
    (base / "2").touch()
    assert push(base, model("b")).version == 3
    assert served(base) == ([1, 3], {"stable": 3})


def test_the_number_of_a_deleted_version_is_not_used_again(three: Path, model: MakeModel) -> None:
    import shutil

    shutil.rmtree(three / "3")
    assert versions.live(three) == 2
    assert push(three, model("d")).version == 4


def test_without_numbers_left_it_says_so(base: Path, model: MakeModel) -> None:
    (base / str(2**63 - 1)).mkdir(parents=True)
    with pytest.raises(ServingError, match="no version number is left"):
        push(base, model("a"))
    assert leftovers(base) == []


def test_a_model_without_variables_is_refused(base: Path, model: MakeModel) -> None:
    source = model("a")
    (source / "variables" / "variables.index").unlink()
    with pytest.raises(ServingError, match="expected a SavedModel"):
        push(base, source)


def test_other_bytes_than_the_blessed_ones_are_refused(base: Path, model: MakeModel) -> None:
    with pytest.raises(ServingError, match="expected digest aaaa"):
        push(base, model("a"), expected="a" * 64)
    assert not base.exists()


def test_a_model_that_changes_while_it_is_copied_is_refused(
    base: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(base, model("a"))

    def copy_and_flip(source: Path, target: Path) -> None:
        real(source, target)
        (target / "saved_model.pb").write_text("flipped")

    real = publish.copy_tree
    monkeypatch.setattr(publish, "copy_tree", copy_and_flip)
    with pytest.raises(ServingError, match="the staged copy: expected digest"):
        push(base, model("b"))
    assert visible(base) == ["1"] and leftovers(base) == []


# ------------------------------------------------------------------------------ where


def test_a_base_path_that_is_a_link_is_followed_once(
    tmp_path: Path, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk1").mkdir()
    (tmp_path / "disk2").mkdir()
    link = tmp_path / "served"
    link.symlink_to("disk1")

    def switch_link(descriptor: int, folder: Path) -> None:
        lock(descriptor, folder)
        link.unlink()
        link.symlink_to("disk2")

    lock = settle._lock
    monkeypatch.setattr(settle, "_lock", switch_link)
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


# ------------------------------------------------------------------------------ back and forth


def test_a_rollback_goes_to_the_version_before_and_takes_the_bad_one_off_the_server(
    three: Path,
) -> None:
    assert publish.rollback(three, reason="bad accuracy") == 2
    assert versions.live(three) == 2
    # A request without a label goes to the highest listed version: 3 must not be listed.
    assert served(three) == ([1, 2], {"stable": 2})
    assert visible(three) == ["1", "2", "3"]


def test_two_rollbacks_go_two_versions_back(three: Path, model: MakeModel) -> None:
    publish.rollback(three, reason="bad")
    assert publish.rollback(three, reason="bad too") == 1
    with pytest.raises(ServingError, match=r"cannot go back from v1 .*expected one of no version"):
        publish.rollback(three, reason="bad as well")
    assert versions.live(three) == 1
    assert push(three, model("d")).version == 4


def test_a_rollback_to_a_named_version_can_be_repeated(three: Path) -> None:
    assert publish.rollback(three, to=1, reason="bad") == 1
    assert publish.rollback(three, to=1, reason="bad") == 1
    assert versions.live(three) == 1
    assert events(three)[-1] == ("rolled_back", 3)


@pytest.mark.parametrize("to", [3, 9])
def test_a_rollback_to_a_withdrawn_or_unknown_version_is_refused(three: Path, to: int) -> None:
    publish.rollback(three, reason="bad")
    with pytest.raises(ServingError, match=f"from v2 to v{to}: expected one of v1"):
        publish.rollback(three, to=to, reason="try")
    assert versions.live(three) == 2


def test_a_rollback_to_damaged_bytes_is_refused(three: Path) -> None:
    (three / "2" / "saved_model.pb").write_text("flipped")
    with pytest.raises(ServingError, match=r"v2 .* is damaged"):
        publish.rollback(three, reason="bad")
    assert versions.live(three) == 3
    assert publish.rollback(three, to=1, reason="bad") == 1


def test_a_rollback_that_was_killed_before_models_config_is_finished_not_repeated(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_config, "replace_text", killed)
    with pytest.raises(KeyboardInterrupt):
        publish.rollback(three, reason="bad")
    monkeypatch.undo()
    assert versions.live(three) == 3
    assert publish.rollback(three, reason="bad") == 2
    assert versions.live(three) == 2


def test_a_withdrawn_digest_comes_back_only_by_force_and_as_a_new_version(
    three: Path, model: MakeModel, tmp_path: Path
) -> None:
    bad = tmp_path / "models" / "c"
    publish.rollback(three, reason="bad")
    with pytest.raises(ServingError, match=r"held back: this model is v3, withdrawn: bad; .*force"):
        push(three, bad)
    assert versions.live(three) == 2
    published = push(three, bad, force="it was the data")
    assert (published.version, published.new) == (4, True)
    assert versions.live(three) == 4
    assert versions.provenance_of(three, 4)["force"] == "it was the data"
    assert versions.state_of(three, published.digest).sentence == "up to date (v4 live)"


def test_bytes_that_were_withdrawn_under_one_number_are_no_target_under_another(
    base: Path, model: MakeModel
) -> None:
    a, b = model("a"), model("b")
    for source in (a, b, a):
        push(base, source)
    assert publish.rollback(base, reason="a is bad") == 2
    with pytest.raises(ServingError, match="cannot go back from v2"):
        publish.rollback(base, reason="b is bad")


def test_nobody_can_roll_back_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="there is no served folder"):
        publish.rollback(tmp_path / "none", reason="bad")
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match="no version to roll back"):
        publish.rollback(tmp_path / "empty", reason="bad")


def test_a_canary_is_listed_beside_stable_until_it_is_withdrawn(three: Path) -> None:
    publish.rollback(three, to=1, reason="bad")
    publish.promote(three, 2, label="canary")
    assert served(three) == ([1, 2], {"stable": 1, "canary": 2})
    publish.withdraw(three, 2, reason="slow")
    assert served(three) == ([1], {"stable": 1})
    with pytest.raises(ServingError, match=r"cannot promote v2: expected one of v1;.*--force"):
        publish.promote(three, 2)


def test_a_canary_is_promoted_to_stable(three: Path) -> None:
    publish.rollback(three, to=1, reason="bad")
    publish.promote(three, 2)
    assert versions.live(three) == 2


def test_stable_moves_forward_only(three: Path) -> None:
    with pytest.raises(ServingError, match="v1 is older than v3, which is live; bnpipe rollback"):
        publish.promote(three, 1)
    with pytest.raises(ServingError, match="label: expected stable or canary"):
        publish.promote(three, 2, label="latest")


def test_the_live_version_cannot_be_withdrawn_without_a_successor(three: Path) -> None:
    with pytest.raises(ServingError, match=r"v3 is live; .*bnpipe rollback"):
        publish.withdraw(three, 3, reason="bad")
    with pytest.raises(ServingError, match="has no v9: expected one of v1, v2, v3"):
        publish.withdraw(three, 9, reason="bad")


# ------------------------------------------------------------------------------ retention


def test_pruning_keeps_the_last_and_everything_that_is_needed(
    three: Path, model: MakeModel
) -> None:
    for content in "defg":
        push(three, model(content))
    publish.rollback(three, to=2, reason="bad")
    publish.promote(three, 4, label="canary")
    # 7 is the last, 2 is live, 4 has a label, 1 is what a rollback would go to.
    assert publish.prune(three, 1) == [3, 5, 6]
    assert visible(three) == ["1", "2", "4", "7"]
    assert torn(three) == leftovers(three) == []
    assert push(three, model("h")).version == 8


def test_pruning_keeps_what_the_live_version_was_compared_with(
    base: Path, model: MakeModel
) -> None:
    push(base, model("a"))
    push(base, model("b"))
    push(base, model("c"), compared_with=1)
    assert publish.prune(base, 1) == []
    champion = versions.champion(base, versions.tree_digest(base / "3"))
    assert champion is not None and champion.version == 1


def test_pruning_leaves_alone_what_was_not_published_here(base: Path, model: MakeModel) -> None:
    for number in (1, 2, 3):
        saved_model(base / str(number), f"foreign {number}")
    for content in "abc":
        push(base, model(content))
    assert publish.prune(base, 1) == [4]
    assert visible(base) == ["1", "2", "3", "5", "6"]
