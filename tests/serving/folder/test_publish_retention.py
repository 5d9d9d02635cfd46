"""Which versions pruning removes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from bnpipe.serving.export.digest import tree_digest
from bnpipe.serving.folder import labels, publish, standing
from bnpipe.serving.folder.signing import Signer
from bnpipe.serving.folder.verify import verify
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


def test_what_is_said_of_the_files_of_a_version_goes_with_it(base: Path, model: MakeModel) -> None:
    signer = Signer(derive_private_key(7, SECP256R1()))
    for content in "abcd":
        push(base, model(content), signer=signer)
    shutil.copytree(base / "1", base.parent / "kept")
    assert publish.prune(base, 1) == [1, 2]
    manifests = {f"{number}.{kind}" for number in (3, 4) for kind in ("json", "sig", "slsa")}
    assert {path.name for path in (base / "manifests").iterdir()} == manifests
    # Where it came from stays, and the ledger has the signatures.
    assert (base / "provenance/1.json").exists()
    shutil.copytree(base.parent / "kept", base / "1")
    assert publish.sign(base, 1, signer)
    assert [v.status for v in verify(base, signer.verifier)] == ["ok"] * 3


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
