"""The standing of a candidate in a served folder, and the version it is compared with."""

from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, ledger, model_config, standing, versions
from tests.serving.folder.served import push


def test_the_state_of_a_digest(base: Path, model_a: Path, model_b: Path, model_c: Path) -> None:
    a, b, c = (tree_digest(m) for m in (model_a, model_b, model_c))
    push(base, model_a)
    assert standing.state_of(base, a) == standing.Standing(False, "up to date (v1 live)")
    push(base, model_b)
    push(base, model_c)
    labels.rollback(base, reason="bad accuracy")
    assert standing.state_of(base, b) == standing.Standing(False, "up to date (v2 live)")
    assert standing.state_of(base, c) == standing.Standing(
        False, "held back (v3 withdrawn: bad accuracy)"
    )
    # Older, not live, not withdrawn: it goes forward under a new number.
    assert standing.state_of(base, a) == standing.Standing(True, "publish")
    assert push(base, model_a).version == 4


def test_the_champion_is_the_live_version(base: Path, model_a: Path, model_b: Path) -> None:
    push(base, model_a)
    champion = standing.champion(base, tree_digest(model_b))
    assert champion == standing.Champion(1, base / "1", tree_digest(model_a))


def test_a_live_candidate_is_compared_with_what_it_was_compared_with(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    assert standing.champion(base, tree_digest(model_a)) is None
    push(base, model_b)
    champion = standing.champion(base, tree_digest(model_b))
    assert champion is not None and champion.version == 1


def test_a_withdrawn_candidate_is_compared_with_what_it_was_compared_with(
    base: Path, model_a: Path, model_b: Path, model_c: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    labels.rollback(base, reason="bad")
    push(base, model_c)
    champion = standing.champion(base, tree_digest(model_b))
    assert champion is not None and champion.version == 1


def test_a_damaged_champion_is_refused_and_can_be_rolled_back(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    (base / "2" / "saved_model.pb").write_text("other bytes")
    with pytest.raises(ServingError, match=r"v2 in .* is damaged.*bnpipe rollback"):
        standing.champion(base, None)
    assert standing.state_of(base, tree_digest(model_b)) == standing.Standing(
        True, "publish (the bytes of v2 are damaged)"
    )
    assert labels.rollback(base, reason="damaged") == 1
    assert standing.champion(base, None) is not None


def test_a_damaged_live_version_is_published_again(base: Path, model_a: Path) -> None:
    push(base, model_a)
    (base / "1" / "saved_model.pb").write_text("other bytes")
    assert push(base, model_a).version == 2
    assert standing.state_of(base, tree_digest(model_a)).needed is False


def test_a_push_that_stopped_short_of_models_config_is_still_to_do(
    base: Path, model_a: Path
) -> None:
    digest = push(base, model_a).digest
    (base / model_config.MODELS_CONFIG).unlink()
    assert versions.live(base) == 1
    assert standing.state_of(base, digest) == standing.Standing(True, "publish (finish v1)")
    assert push(base, model_a).new is False
    assert standing.state_of(base, digest) == standing.Standing(False, "up to date (v1 live)")


def test_a_number_whose_folder_never_came_is_given_up_and_not_used_again(
    base: Path, model_a: Path, model_b: Path
) -> None:
    digest = push(base, model_a).digest
    taken = {"digest": "d", "model_name": "mnist", "compared_with": 1, "provenance": {}}
    ledger.append(base, "reserved", 2, **taken, force=None)
    assert standing.state_of(base, digest).needed is True
    push(base, model_a)
    assert standing.state_of(base, digest).needed is False
    assert push(base, model_b).version == 3
