"""Which versions pruning removes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, publish, standing
from tests.serving.folder.served import leftovers, push, saved_model, torn, visible

MakeModel = Callable[[str], Path]
pytestmark = pytest.mark.usefixtures("quick_disk")


def test_pruning_keeps_the_last_and_everything_that_is_needed(
    three: Path, model: MakeModel
) -> None:
    for content in "defg":
        push(three, model(content))
    labels.rollback(three, to=2, reason="bad")
    labels.promote(three, 4, label="canary")
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
    champion = standing.champion(base, tree_digest(base / "3"))
    assert champion is not None and champion.version == 1


def test_pruning_leaves_alone_what_was_not_published_here(base: Path, model: MakeModel) -> None:
    for number in (1, 2, 3):
        saved_model(base / str(number), f"foreign {number}")
    for content in "abc":
        push(base, model(content))
    assert publish.prune(base, 1) == [4]
    assert visible(base) == ["1", "2", "3", "5", "6"]
