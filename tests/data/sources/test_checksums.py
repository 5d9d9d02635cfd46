"""Names and archives, judged without TFDS and without a network."""

import hashlib
import sys
from pathlib import Path

import pytest

from bnpipe.data.errors import DataError, RequestError
from bnpipe.data.sources.checksums import (
    check_archives,
    check_dataset_name,
    local_archives,
    registered_archives,
)
from tests.child import environment

LABELS = "t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    "name", ["mnist", "fashion_mnist", "kmnist", "emnist/digits", "rendered_digits"]
)
def test_known_names_pass(name: str) -> None:
    check_dataset_name(name)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("mnits", "mnist"), ("fashion-mnist", "fashion_mnist"), ("Rendered_Digit", "rendered_digits")],
)
def test_a_misspelt_name_gets_a_near_miss(typed: str, meant: str) -> None:
    with pytest.raises(DataError, match=f"unknown data set '{typed}'.* did you mean .*={meant}"):
        check_dataset_name(typed)


def test_mnist_has_four_registered_archives() -> None:
    text, archives = registered_archives("mnist")
    assert len(archives) == 4
    assert all(a.sha256 in text and a.name in a.url and a.size > 0 for a in archives)


def test_a_missing_archive_is_not_damaged(tmp_path: Path) -> None:
    local = local_archives("mnist", tmp_path)
    assert local.damaged == {}
    assert len(local.missing) == 4
    (tmp_path / LABELS).touch()
    local = local_archives("mnist", tmp_path)
    assert list(local.damaged) == [LABELS]
    assert LABELS not in [a.name for a in local.missing]


def test_a_damaged_archive_is_named_with_both_digests(tmp_path: Path) -> None:
    (tmp_path / LABELS).write_bytes(b"not labels")
    received = hashlib.sha256(b"not labels").hexdigest()
    with pytest.raises(DataError) as caught:
        check_archives("mnist", tmp_path)
    assert str(tmp_path / LABELS) in caught.value.headline
    assert f"received {received}" in caught.value.headline
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"received .*/nowhere, which is not a folder") as caught:
        check_archives("mnist", tmp_path / "nowhere")
    assert isinstance(caught.value, RequestError)  # exit code 2


def test_the_real_archives_are_intact(mnist_archives: Path) -> None:
    assert len(check_archives("mnist", mnist_archives).intact) == 4


def test_another_data_sets_archives_are_named_and_not_used(mnist_archives: Path) -> None:
    local = check_archives("fashion_mnist", mnist_archives)
    assert (local.usable, len(local.missing)) == (None, 4)
    assert list(local.foreign.values()) == ["mnist"] * 4
    clause = local.describe_foreign("fashion_mnist")
    assert clause.endswith("-ubyte.gz is the archive of mnist, not of fashion_mnist")


def test_a_folder_of_the_data_sets_name_is_looked_at_first(
    mnist_archives: Path, tmp_path: Path
) -> None:
    (tmp_path / "mnist").symlink_to(mnist_archives)
    (tmp_path / LABELS).write_bytes(b"of another data set")
    assert check_archives("mnist", tmp_path).usable == tmp_path / "mnist"
    with pytest.raises(DataError, match="is damaged"):
        check_archives("fashion_mnist", tmp_path)


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    import subprocess

    program = (
        "import sys; from pathlib import Path;"
        "from bnpipe.components.example_gen import Params, probe;"
        f"probe(Params(archives={str(tmp_path)!r}), Path('.'));"
        "heavy = {'numpy', 'tensorflow', 'tensorflow_datasets', 'apache_beam'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(), check=True)
