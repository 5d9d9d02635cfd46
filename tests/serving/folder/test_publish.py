"""Which number a push takes, what it copies, which bytes it refuses."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import ledger, publish, versions
from tests.serving.folder.served import config_of, leftovers, push, served, torn, visible

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


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
    assert tree_digest(base / "1") == tree_digest(source) == published.digest
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
