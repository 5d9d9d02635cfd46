"""Record ids, content hashes and the validation split."""

import numpy as np

from bnpipe.data.records.record_ids import (
    as_numbers,
    content_hashes,
    ids,
    in_test,
    in_validation,
    named_ids,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (4000, 3, 3), np.uint8)


def test_ids_count_without_padding() -> None:
    index = np.arange(95, 1002)
    named = [row.tobytes() for _, rows in ids("mnist:3.0.1/train", index) for row in rows]
    assert named == [b"mnist:3.0.1/train/%d" % i for i in index]


def test_id_slices_cover_the_batch() -> None:
    parts = [part for part, _ in ids("x", np.arange(0, 120))]
    assert [(p.start, p.stop) for p in parts] == [(0, 10), (10, 100), (100, 120)]


def test_the_hash_is_published_blake2b() -> None:
    zero = content_hashes(np.zeros((1, 28, 28), np.uint8))
    assert zero.tobytes().hex() == "51952685996be59f"
    assert as_numbers(zero)[0] == 0x51952685996BE59F


def test_validation_takes_its_share_and_keeps_duplicates_together() -> None:
    hashes = content_hashes(IMAGES)
    held_out = in_validation(hashes, 1 / 12)
    assert 0.07 < held_out.mean() < 0.097
    again = in_validation(content_hashes(IMAGES[::-1]), 1 / 12)[::-1]
    np.testing.assert_array_equal(held_out, again)
    larger = in_validation(hashes, 1 / 6)
    assert (larger | ~held_out).all()  # a larger share only adds images


def test_a_test_split_that_is_cut_off_takes_other_images_than_validation() -> None:
    hashes = content_hashes(IMAGES)
    test = in_test(hashes, 1 / 12)
    assert 0.07 < test.mean() < 0.097
    assert not (test & in_validation(hashes, 1 / 12)).any()


def test_named_ids_keep_their_order_and_cover_the_batch() -> None:
    names = [b"7/a.png", b"7/b.png", b"7/long.png", b"8/a.png"]
    parts = list(named_ids("mnist:3.0.1/span-3/train", names))
    assert [(p.start, p.stop) for p, _ in parts] == [(0, 2), (2, 3), (3, 4)]
    named = [row.tobytes() for _, rows in parts for row in rows]
    assert named == [b"mnist:3.0.1/span-3/train/" + name for name in names]
