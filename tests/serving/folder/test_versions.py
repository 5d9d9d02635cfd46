"""Which version is live, and what is read of each."""

import json
from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, model_config, standing, versions
from tests.serving.folder.served import push, saved_model


def test_nothing_is_live_where_nothing_was_published(base: Path, tmp_path: Path) -> None:
    assert versions.live(base) is None
    assert standing.champion(base, "any") is None
    assert standing.state_of(base, "any") == standing.Standing(True, "publish")
    (tmp_path / "empty").mkdir()
    assert versions.live(tmp_path / "empty") is None


def test_stable_in_models_config_is_live_even_below_a_higher_number(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    assert versions.live(base) == 2
    labels.rollback(base, reason="bad")
    assert versions.live(base) == 1
    assert versions.complete_versions(base) == [1, 2]


def test_without_models_config_the_ledger_says_what_is_live(
    base: Path, model_a: Path, model_b: Path
) -> None:
    push(base, model_a)
    push(base, model_b)
    labels.rollback(base, reason="bad")
    (base / model_config.MODELS_CONFIG).unlink()
    assert versions.live(base) == 1


def test_a_folder_that_another_tool_filled_is_taken_over(
    base: Path, model_a: Path, model_b: Path
) -> None:
    saved_model(base / "1700000000", "foreign")
    (base / "1800000000").mkdir()
    champion = standing.champion(base, None)
    assert champion is not None and champion.version == 1700000000
    assert champion.digest == tree_digest(base / "1700000000")
    # The empty folder is no model, but its number is taken.
    assert push(base, model_a).version == 1800000001
    labels.rollback(base, reason="worse than before")
    assert versions.live(base) == 1700000000


def test_provenance_is_read_back(base: Path, model_a: Path) -> None:
    push(base, model_a, provenance={"run": "0001", "dataset": {"name": "mnist"}})
    found = versions.provenance_of(base, 1)
    assert found["run"] == "0001" and found["digest"] == tree_digest(model_a)
    assert json.loads((base / "provenance" / "1.json").read_text()) == found
    with pytest.raises(ServingError, match="no record of v9"):
        versions.provenance_of(base, 9)


def test_reading_leaves_no_trace(base: Path, model_a: Path) -> None:
    push(base, model_a)
    before = sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*"))
    versions.live(base)
    standing.state_of(base, "x")
    standing.champion(base, "x")
    assert sorted((p, p.stat().st_mtime_ns) for p in base.rglob("*")) == before
