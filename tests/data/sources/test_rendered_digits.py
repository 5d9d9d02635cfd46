"""Rendered digits: which image has which number, whoever draws it."""

import numpy as np
import pytest

from bnpipe.data.sources.rendered_digits import RenderedDigits, rendered
from bnpipe.data.sources.source import BadRecord


def drawn(source: RenderedDigits, start: int, stop: int) -> tuple[list[int], np.ndarray]:
    def fail(record: BadRecord) -> None:
        raise AssertionError(record)

    batches = list(source.read_slice(start, stop, fail))
    images = [np.zeros((0, 28, 28), np.uint8), *(batch.images for batch in batches)]
    return [int(n) for batch in batches for n in batch.numbers], np.concatenate(images)


def test_the_data_set_says_what_it_is() -> None:
    info, sources = rendered(512, seed=0)
    assert (info.name, info.version, info.height, info.width) == (
        "rendered_digits",
        "1.0.0",
        28,
        28,
    )
    assert info.label_names == tuple("0123456789")
    assert info.splits == {"train": 427, "test": 85} == {k: s.size for k, s in sources.items()}
    assert info.synthetic
    assert rendered(None, seed=0)[0].splits == {"train": 10_000, "test": 2_000}


def test_a_larger_set_begins_with_the_images_of_a_smaller_one() -> None:
    _, small = drawn(rendered(512, 0)[1]["train"], 0, 427)
    _, large = drawn(rendered(2000, 0)[1]["train"], 0, 1667)
    np.testing.assert_array_equal(small, large[:427])
    _, other = drawn(rendered(512, 1)[1]["train"], 0, 427)
    assert not np.array_equal(other, small)
    _, test = drawn(rendered(512, 0)[1]["test"], 0, 85)
    assert not np.array_equal(test, small[:85])


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (999, 1001), (1500, 2500), (2400, 2500), (7, 7)]
)
def test_slices_add_up_to_the_whole(start: int, stop: int) -> None:
    train = rendered(3000, 0)[1]["train"]
    numbers, images = drawn(train, start, stop)
    assert numbers == list(range(start, stop))
    np.testing.assert_array_equal(images, drawn(train, 0, train.size)[1][start:stop])
