"""8-bit grey PNG images without compression, a thousand at a time.

TFDS stores images as PNG. Encoding a small image with zlib takes longer than everything else that
happens to it, so the PNGs that this project has TFDS store are not compressed (zlib "stored"
blocks, filter 0). They are ordinary PNG files of one fixed length, which makes decoding a batch a
slice of a matrix.

Format: https://www.w3.org/TR/png-3, zlib: RFC 1950, deflate stored blocks: RFC 1951 section 3.2.4.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_BLOCK = 65535
_HEAD = 43  # up to the pixels: signature 8, IHDR 25, IDAT length and name 8, zlib header 2
_BLOCK_HEAD = 5


def encode_stored(image: Bytes) -> bytes:
    """Encodes one image as PNG without compression.

    Args:
        image: uint8[H, W] or uint8[H, W, 1].
    """
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width), np.uint8)  # the first byte of a row names its filter
    rows[:, 1:] = image.reshape(height, width)
    idat = zlib.compress(rows.tobytes(), level=0)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


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
    start = _HEAD + _BLOCK_HEAD
    if not (pngs[:, :start] == template[:start]).all():
        return None
    rows = pngs[:, start : start + raw].reshape(-1, height, 1 + width)
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
