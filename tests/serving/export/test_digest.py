"""The digest of a SavedModel: the same for the same model, and for no other."""

from pathlib import Path

import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.digest import tree_digest
from tests.serving.folder.served import push, saved_model


def test_the_digest_follows_paths_and_bytes_but_not_the_random_fingerprint(tmp_path: Path) -> None:
    first, second = saved_model(tmp_path / "1", "x"), saved_model(tmp_path / "2", "x")
    assert tree_digest(first) == tree_digest(second)
    (second / "fingerprint.pb").unlink()
    assert tree_digest(first) == tree_digest(second)
    (second / "saved_model.pb").rename(second / "saved_model.pbtxt")
    assert tree_digest(first) != tree_digest(second)


def test_the_digest_is_the_documented_formula(tmp_path: Path) -> None:
    from hashlib import sha256

    folder = tmp_path / "m"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"12")
    (folder / "a.b").write_bytes(b"3")
    lines = [f"a.b\0{1}\0{sha256(b'3').hexdigest()}\n", f"a/x\0{2}\0{sha256(b'12').hexdigest()}\n"]
    assert tree_digest(folder) == sha256("".join(sorted(lines)).encode()).hexdigest()


def test_a_link_in_a_model_is_refused(model_a: Path, base: Path) -> None:
    (model_a / "assets" / "vocabulary").symlink_to("/etc/hostname")
    with pytest.raises(ServingError, match="plain file"):
        push(base, model_a)
    assert not base.exists()
