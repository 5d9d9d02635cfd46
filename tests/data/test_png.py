"""Uncompressed PNG images."""

import io

import numpy as np
import pytest
from PIL import Image

from bnpipe.data.png import decode_any, decode_stored, encode_stored

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 20), np.uint8)


def as_rows(files: list[bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(file, np.uint8) for file in files])


def test_any_png_reader_sees_the_pixels() -> None:
    for image in IMAGES:
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(encode_stored(image)))), image
        )


def test_a_batch_is_decoded_at_once() -> None:
    pngs = as_rows([encode_stored(image[..., None]) for image in IMAGES])
    np.testing.assert_array_equal(decode_stored(pngs, 28, 20), IMAGES)


def test_other_pngs_are_left_to_the_general_decoder() -> None:
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[0]).save(buffer, "PNG")
    png = buffer.getvalue()
    assert decode_stored(as_rows([png]), 28, 20) is None
    assert decode_stored(as_rows([encode_stored(IMAGES[0])]), 20, 28) is None
    np.testing.assert_array_equal(decode_any(png, 28, 20), IMAGES[0])


def test_images_of_another_size_are_refused_by_their_header() -> None:
    bomb = encode_stored(np.zeros((2000, 2000), np.uint8))[:200]  # pixels are not even there
    with pytest.raises(ValueError, match="expected 28x20 pixels of 8-bit grey, received 2000x2000"):
        decode_any(bomb, 28, 20)


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(ValueError, match="expected an image, received 4 bytes"):
        decode_any(b"nope", 28, 20)


@pytest.mark.parametrize("at", [45, 300, -14, -3])
def test_every_damaged_byte_is_found(at: int) -> None:
    file = bytearray(encode_stored(IMAGES[0]))
    file[at] ^= 1
    with pytest.raises(ValueError, match="the checksum of its chunk at byte"):
        decode_any(bytes(file), 28, 20)


@pytest.mark.parametrize("length", [40, 300, -12, -1])
def test_a_file_that_is_cut_short_is_found(length: int) -> None:
    with pytest.raises(ValueError, match="it is cut short after"):
        decode_any(encode_stored(IMAGES[0])[:length], 28, 20)


def test_checked_files_may_still_hold_no_pixels() -> None:
    whole = encode_stored(IMAGES[0])
    without_pixels = whole[:33] + whole[-12:]
    with pytest.raises(ValueError, match="expected an image, received 45 bytes"):
        decode_any(without_pixels, 28, 20)


def test_jpeg_is_what_tfds_stores_too() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((28, 20), 77, np.uint8)).save(buffer, "JPEG")
    np.testing.assert_array_equal(decode_any(buffer.getvalue(), 28, 20), 77)
    with pytest.raises(ValueError, match="received 28x20 pixels of mode L"):
        decode_any(buffer.getvalue(), 20, 28)
