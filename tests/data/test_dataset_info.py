"""`dataset.json`."""

import json
from pathlib import Path

import pytest

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import DataError

INFO = DatasetInfo("emnist/digits", "3.1.0", 28, 20, ("a", "b"), {"train": 3, "test": 1}, False)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(INFO.to_json(shards={"Split-train/x": 3}))
    assert DatasetInfo.read(tmp_path) == INFO
    assert json.loads((tmp_path / "dataset.json").read_text())["shards"] == {"Split-train/x": 3}
    assert (INFO.features, INFO.classes) == (560, 2)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "mnist"}'])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match="does not describe a data set"):
        DatasetInfo.read(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/dataset.json"):
        DatasetInfo.read(tmp_path)
