"""8-bit grey PNG images: those without compression a thousand at a time, others one by one.

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
_PIXELS_AT = 48  # up to the pixels: signature 8, IHDR 25, IDAT 8, zlib 2, block 5
_HEAD_START = SIGNATURE + struct.pack(">I4s", 13, b"IHDR")
_HEAD_BYTES = 33  # signature 8, IHDR 25
_CHUNK_BYTES = 12  # length 4, name 4, checksum 4
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
_METADATA = 1 << 14


def encode_stored(image: Bytes) -> bytes:
    """Encodes one image as PNG without compression.

    Args:
        image: uint8[H, W] or uint8[H, W, 1].

    Returns:
        the file.
    """
    height, width = image.shape[:2]
    rows = np.zeros((height, 1 + width), np.uint8)  # the first byte of a row names its filter
    rows[:, 1:] = image.reshape(height, width)
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return SIGNATURE + head + _chunk(b"IDAT", zlib.compress(rows.tobytes(), level=0)) + _END


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


def largest_file(height: int, width: int) -> int:
    """The most bytes that a PNG of this size may have: all its pixels and some metadata."""
    return _PIXELS_AT + 2 * height * (1 + width) + _METADATA


def _check_head(png: bytes, height: int, width: int) -> None:
    if png[:16] != _HEAD_START or len(png) < _HEAD_BYTES:
        raise ValueError(f"expected a PNG image, received {len(png)} bytes that are none")
    columns, rows, depth, color = struct.unpack(">IIBB", png[16:26])
    if (rows, columns, depth, color) != (height, width, 8, 0):
        kind = _COLOR_TYPES.get(color, f"color type {color}")
        raise ValueError(
            f"expected {height}x{width} pixels of 8-bit grey, received {rows}x{columns} of "
            f"{depth}-bit {kind}"
        )
    if len(png) > largest_file(height, width):
        raise ValueError(
            f"expected a PNG image of at most {largest_file(height, width)} bytes, "
            "received a longer one"
        )


def _check_chunks(png: bytes) -> None:
    """Checks what Pillow leaves unchecked: the checksums of pixels, and that nothing is missing."""
    at = len(SIGNATURE)
    while at + _CHUNK_BYTES <= len(png):
        length, name = struct.unpack_from(">I4s", png, at)
        end = at + _CHUNK_BYTES + length
        if end > len(png):
            break
        if zlib.crc32(png[at + 4 : end - 4]) != int.from_bytes(png[end - 4 : end], "big"):
            raise ValueError(
                f"expected a whole PNG image, but the checksum of its chunk at byte {at} is wrong"
            )
        if name == b"IEND":
            return
        at = end
    raise ValueError(f"expected a whole PNG image, but it is cut short after {len(png)} bytes")


def decode_png(file: bytes, height: int, width: int) -> Bytes:
    """Decodes one PNG file after a look at what it says of itself: a bomb costs nothing.

    Returns:
        uint8[H, W].

    Raises:
        ValueError: not a PNG image, damaged, too long, or of another size or kind than 8-bit grey.
    """
    _check_head(file, height, width)
    _check_chunks(file)
    return _decode(file, "PNG", height, width)


def decode_any(file: bytes, height: int, width: int) -> Bytes:
    """Decodes one file of a format in which TFDS stores images: PNG or JPEG.

    Returns:
        uint8[H, W].

    Raises:
        ValueError: as `decode_png`.
    """
    if file.startswith(SIGNATURE):
        return decode_png(file, height, width)
    return _decode(file, "JPEG", height, width)


def _decode(file: bytes, kind: str, height: int, width: int) -> Bytes:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file), formats=(kind,)) as image:
            received = f"{image.size[1]}x{image.size[0]} pixels of mode {image.mode}"
            if image.size == (width, height) and image.mode == "L":
                return np.asarray(image)
    # Pillow raises whatever comes up while it parses damaged bytes: struct.error, zlib.error, ...
    except Exception as error:
        raise ValueError(f"expected an image, received {len(file)} bytes that are none") from error
    raise ValueError(f"expected {height}x{width} pixels of 8-bit grey, received {received}")
