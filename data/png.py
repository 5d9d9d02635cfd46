"""8-bit grey PNG images without compression, a thousand at a time.

TFDS stores images as PNG. Encoding a small image with zlib takes longer than everything else that
happens to it, so the PNGs that this project has TFDS store are not compressed (zlib "stored"
blocks, filter 0). They are ordinary PNG files of one fixed length, which makes decoding a batch a
slice of a matrix.

Format: https://www.w3.org/TR/png-3, zlib: RFC 1950, deflate stored blocks: RFC 1951 section 3.2.4.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_BLOCK = 65535
_PIXELS_AT = 48  # up to the pixels: signature 8, IHDR 25, IDAT 8, zlib 2, block 5


def encode_stored(image: Bytes) -> bytes:
    """Encodes one image as PNG without compression.

    Args:
        image: uint8[H, W] or uint8[H, W, 1].
    """
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width), np.uint8)  # the first byte of a row names its filter
    rows[:, 1:] = image.reshape(height, width)
    return _head(height, width) + _chunk(b"IDAT", zlib.compress(rows.tobytes(), level=0)) + _END


@functools.cache
def _head(height: int, width: int) -> bytes:
    return SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


_END = _chunk(b"IEND", b"")


def decode_stored(pngs: Bytes, height: int, width: int) -> Bytes | None:
    """Decodes PNGs of `encode_stored`.

    The bytes are taken as they are; the caller has checked the record's own checksum.

    Args:
        pngs: uint8[N, k], one PNG per row.
        height: expected height.
        width: expected width.

    Returns:
        uint8[N, H, W], or None when these are other PNGs.
    """
    raw = height * (1 + width)
    template = np.frombuffer(encode_stored(np.zeros((height, width), np.uint8)), np.uint8)
    if pngs.shape[1] != len(template) or raw > _LARGEST_BLOCK:
        return None
    if not (pngs[:, :_PIXELS_AT] == template[:_PIXELS_AT]).all():
        return None
    rows = pngs[:, _PIXELS_AT : _PIXELS_AT + raw].reshape(-1, height, 1 + width)
    return None if rows[:, :, 0].any() else rows[:, :, 1:]


def decode_any(png: bytes, height: int, width: int) -> Bytes:
    """Decodes one image file of any format that Pillow reads, after a look at its header.

    Returns:
        uint8[H, W].

    Raises:
        ValueError: not an image, or one of another size or kind; nothing is decoded before the
            header has been checked, so a decompression bomb costs nothing.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(png)) as image:
            if image.size != (width, height) or image.mode not in ("L", "1"):
                raise ValueError(
                    f"expected {height}x{width} grey pixels, received "
                    f"{image.size[1]}x{image.size[0]} of mode {image.mode}"
                )
            return np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"expected an image, received {len(png)} bytes that are not") from error
