"""Images are found by what they show."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from bnpipe.components.study.doubtful import doubtful
from bnpipe.data.preprocessing import flatten_and_scale

LISTED = (
    *(947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937),
    *(6651, 6783, 8527, 9679, 9729),
)


def test_other_images_are_not_marked() -> None:
    assert not doubtful(np.random.default_rng(0).random((20, 784), np.float32)).any()


@pytest.mark.slow
def test_the_fifteen_of_mnist_are_found_wherever_they_stand(mnist_archives: Path) -> None:
    content = gzip.decompress((mnist_archives / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(content, np.uint8)[16:].reshape(-1, 28, 28)
    order = np.random.default_rng(0).permutation(len(images))
    marked = doubtful(flatten_and_scale(images[order]))
    assert tuple(sorted(order[marked])) == LISTED
