"""Rolling back, withdrawing, promoting: which version is live, which are listed."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder import labels, ledger, model_config, publish, standing, versions
from tests.serving.folder.served import events, push, served, visible

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


def test_a_rollback_goes_to_the_version_before_and_takes_the_bad_one_off_the_server(
    three: Path,
) -> None:
    assert labels.rollback(three, reason="bad accuracy") == 2
    assert versions.live(three) == 2
    # A request without a label goes to the highest listed version: 3 must not be listed.
    assert served(three) == ([1, 2], {"stable": 2})
    assert visible(three) == ["1", "2", "3"]


def test_two_rollbacks_go_two_versions_back(three: Path, model: MakeModel) -> None:
    labels.rollback(three, reason="bad")
    assert labels.rollback(three, reason="bad too") == 1
    with pytest.raises(ServingError, match=r"cannot go back from v1 .*expected one of no version"):
        labels.rollback(three, reason="bad as well")
    assert versions.live(three) == 1
    assert push(three, model("d")).version == 4


def test_a_rollback_to_a_named_version_can_be_repeated(three: Path) -> None:
    assert labels.rollback(three, to=1, reason="bad") == 1
    assert labels.rollback(three, to=1, reason="bad") == 1
    assert versions.live(three) == 1
    assert events(three)[-1] == ("rolled_back", 3)


@pytest.mark.parametrize("to", [3, 9])
def test_a_rollback_to_a_withdrawn_or_unknown_version_is_refused(three: Path, to: int) -> None:
    labels.rollback(three, reason="bad")
    with pytest.raises(ServingError, match=f"from v2 to v{to}: expected one of v1"):
        labels.rollback(three, to=to, reason="try")
    assert versions.live(three) == 2


def test_a_rollback_to_damaged_bytes_is_refused(three: Path) -> None:
    (three / "2" / "saved_model.pb").write_text("flipped")
    with pytest.raises(ServingError, match=r"v2 .* is damaged"):
        labels.rollback(three, reason="bad")
    assert versions.live(three) == 3
    assert labels.rollback(three, to=1, reason="bad") == 1


def test_a_rollback_that_was_killed_before_models_config_is_finished_not_repeated(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_config, "replace_text", killed)
    with pytest.raises(KeyboardInterrupt):
        labels.rollback(three, reason="bad")
    monkeypatch.undo()
    assert versions.live(three) == 3
    assert labels.rollback(three, reason="bad") == 2
    assert versions.live(three) == 2


def test_a_withdrawn_digest_comes_back_only_by_force_and_as_a_new_version(
    three: Path, model: MakeModel, tmp_path: Path
) -> None:
    bad = tmp_path / "models" / "c"
    labels.rollback(three, reason="bad")
    with pytest.raises(ServingError, match=r"held back: this model is v3, withdrawn: bad; .*force"):
        push(three, bad)
    assert versions.live(three) == 2
    published = push(three, bad, force="it was the data")
    assert (published.version, published.new) == (4, True)
    assert versions.live(three) == 4
    assert versions.provenance_of(three, 4)["force"] == "it was the data"
    assert standing.state_of(three, published.digest).sentence == "up to date (v4 live)"


def test_bytes_that_were_withdrawn_under_one_number_are_no_target_under_another(
    base: Path, model: MakeModel
) -> None:
    a, b = model("a"), model("b")
    for source in (a, b, a):
        push(base, source)
    assert labels.rollback(base, reason="a is bad") == 2
    with pytest.raises(ServingError, match="cannot go back from v2"):
        labels.rollback(base, reason="b is bad")


def test_a_version_that_waits_becomes_live_when_no_server_is_waited_for(
    three: Path, model: MakeModel
) -> None:
    source = model("d")
    held = push(three, source, hold=True)
    assert (held.version, held.live, versions.live(three)) == (4, False, 3)
    assert served(three) == ([2, 3, 4], {"stable": 3})
    assert push(three, source, hold=True) == held
    done = push(three, source)
    assert (done.version, done.live, versions.live(three)) == (4, True, 4)
    assert events(three)[-2:] == [("listed", 4), ("promoted", 4)]


def test_a_version_that_waits_is_kept_and_overtaken_by_another(
    three: Path, model: MakeModel
) -> None:
    push(three, model("d"), hold=True)
    assert publish.prune(three, 1) == [1]
    push(three, model("e"), hold=True)
    assert served(three) == ([2, 3, 5], {"stable": 3})
    labels.promote(three, 5)
    assert served(three) == ([3, 5], {"stable": 5})  # v4 never was live
    assert versions.waiting(three) is None


def test_the_first_version_of_a_folder_is_never_held(base: Path, model: MakeModel) -> None:
    assert push(base, model("a"), hold=True).live
    assert served(base) == ([1], {"stable": 1})


def test_nobody_can_roll_back_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match="there is no served folder"):
        labels.rollback(tmp_path / "none", reason="bad")
    assert not (tmp_path / "none").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ServingError, match="no version to roll back"):
        labels.rollback(tmp_path / "empty", reason="bad")


def test_a_canary_is_listed_beside_stable_until_it_is_withdrawn(three: Path) -> None:
    labels.rollback(three, to=1, reason="bad")
    labels.promote(three, 2, label="canary")
    assert served(three) == ([1, 2], {"stable": 1, "canary": 2})
    labels.withdraw(three, 2, reason="slow")
    assert served(three) == ([1], {"stable": 1})
    with pytest.raises(ServingError, match=r"cannot promote v2: expected one of v1;.*--force"):
        labels.promote(three, 2)


def test_a_canary_is_promoted_to_stable(three: Path) -> None:
    labels.rollback(three, to=1, reason="bad")
    labels.promote(three, 2)
    assert versions.live(three) == 2


def test_stable_moves_forward_only(three: Path) -> None:
    with pytest.raises(ServingError, match="v1 is older than v3, which is live; bnpipe rollback"):
        labels.promote(three, 1)
    with pytest.raises(ServingError, match="label: expected stable or canary"):
        labels.promote(three, 2, label="latest")


def test_the_live_version_cannot_be_withdrawn_without_a_successor(three: Path) -> None:
    with pytest.raises(ServingError, match=r"v3 is live; .*bnpipe rollback"):
        labels.withdraw(three, 3, reason="bad")
    with pytest.raises(ServingError, match="has no v9: expected one of v1, v2, v3"):
        labels.withdraw(three, 9, reason="bad")


@pytest.mark.parametrize("end", ["kept", "withdrawn", "pruned"])
def test_what_was_live_before_is_no_canary_whatever_its_number(
    three: Path, model: MakeModel, end: str
) -> None:
    push(three, model("d"), hold=True)
    labels.promote(three, 4, label="canary")
    if end == "withdrawn":
        labels.withdraw(three, 4, reason="slow")
    push(three, model("e"))
    if end == "pruned":
        assert publish.prune(three, 1) == [1, 2]
    # Also what servers have loaded, for a rollback that takes effect at once, and a bake.
    assert 3 in served(three)[0]
    assert versions.version_before(three, ledger.read(three), 5) == 3
    assert labels.rollback_target(three, None) == 3
    assert labels.rollback(three, reason="bad") == 3


def test_what_a_rollback_went_past_is_not_what_was_live_before(
    three: Path, model: MakeModel
) -> None:
    labels.rollback(three, reason="bad", to=1)
    push(three, model("d"))
    assert served(three) == ([1, 4], {"stable": 4})
    assert labels.rollback(three, reason="bad") == 1
    with pytest.raises(ServingError, match="cannot go back from v1 to an older version"):
        labels.rollback(three, reason="bad")


def test_a_live_version_that_is_gone_is_not_replaced_by_a_canary(
    three: Path, model: MakeModel
) -> None:
    push(three, model("d"), hold=True)
    labels.promote(three, 4, label="canary")
    shutil.rmtree(three / "3")
    assert versions.live(three) == 2


def test_versions_from_before_the_ledger_are_gone_back_to_by_their_numbers(
    base: Path, model: MakeModel
) -> None:
    for number in (3, 5):
        shutil.copytree(model(f"by hand {number}"), base / str(number))
    push(base, model("a"))
    assert served(base) == ([5, 6], {"stable": 6})
    assert labels.rollback(base, reason="bad") == 5
    assert labels.rollback(base, reason="bad") == 3
