"""`golden.npz` keeps requests and answers as they were, any bytes among them."""

from pathlib import Path

import numpy as np
import pytest

from bnpipe.serving.errors import ServingError
from bnpipe.serving.export.golden import Golden
from bnpipe.serving.export.signatures import SIGNATURES

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 5), np.uint8)


@pytest.fixture
def golden() -> Golden:
    requests = {name: signature.request(PIXELS) for name, signature in SIGNATURES.items()}
    labels = np.array([[b"a\0", b"\xff"]] * 3, object)
    return Golden(requests, {name: {"labels": labels, "rows": np.eye(3)} for name in SIGNATURES})


def test_what_was_written_is_read(golden: Golden, tmp_path: Path) -> None:
    golden.write(tmp_path / "golden.npz")
    again = Golden.read(tmp_path / "golden.npz")
    assert again.rows == 3
    for before, after in ((golden.requests, again.requests), (golden.answers, again.answers)):
        assert before.keys() == after.keys()
        for name, arrays in before.items():
            assert arrays.keys() == after[name].keys()
            for key, array in arrays.items():
                np.testing.assert_array_equal(after[name][key], array, strict=True)


def test_equal_answers_are_equal_bytes(golden: Golden, tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        golden.write(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_file_that_cannot_be_used_says_how_to_get_another(tmp_path: Path) -> None:
    file = tmp_path / "golden.npz"
    with pytest.raises(ServingError, match=r"cannot read golden.npz.*bnpipe run --force evaluator"):
        Golden.read(file)
    file.write_bytes(b"PK")
    with pytest.raises(ServingError, match=r"cannot read golden.npz"):
        Golden.read(file)
    np.savez(file, **{"serve_png/request/image_bytes": np.zeros(1)})
    with pytest.raises(ServingError, match="has no request for serving_default"):
        Golden.read(file)
