"""TFRecord files, many records at a time.

A TFRecord is `length u64 | masked CRC32C of length u32 | payload | masked CRC32C of payload u32`,
little endian. Records of one shard mostly have the same length, so a file is handled as a few
*runs*: uint8 matrices with one record per row. Only the checksum of the payload is computed
record by record, in C.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError
from bnpipe.data.plain_file import open_plain

Bytes = npt.NDArray[np.uint8]

HEADER = 12
FOOTER = 4
_BLOCK = 1 << 20
_MASK_DELTA = 0xA282EAD8


class DamagedRecordError(DataError):
    """A record's bytes are not those that were written."""


class BrokenFramingError(DamagedRecordError):
    """A file is cut short or a record's length is damaged: the records behind it are lost.

    Attributes:
        row: how many whole records precede it.
        offset: where they end.
        rest: how many bytes follow.
    """

    def __init__(
        self, headline: str, *, hint: str = "", row: int = 0, offset: int = 0, rest: int = 0
    ) -> None:
        super().__init__(headline, hint=hint)
        self.row, self.offset, self.rest = row, offset, rest

    @property
    def lost(self) -> int:
        """Number of records that the rest counts as, by the mean length of those before it."""
        return max(math.ceil(self.rest * self.row / self.offset), 1) if self.row else 1


@dataclass(frozen=True)
class RecordRun:
    """Consecutive records of equal length.

    Attributes:
        path: the file.
        offset: byte offset of the first record in the file.
        payload: uint8[N, L], one record per row.
        damaged: indices of rows whose checksum does not match their bytes.
    """

    path: Path
    offset: int
    payload: Bytes
    damaged: npt.NDArray[np.int64]

    def offset_of(self, row: int) -> int:
        """Byte offset of one record in the file."""
        return self.offset + row * (HEADER + int(self.payload.shape[1]) + FOOTER)


def checksums(rows: Bytes) -> npt.NDArray[np.uint32]:
    """The masked CRC32C of every row.

    Args:
        rows: uint8[N, L], each row in one piece.

    Returns:
        uint32[N], rotated and shifted by a constant, as the TFRecord format wants it.
    """
    crc = np.fromiter(map(google_crc32c.value, rows), np.uint32, len(rows))
    masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)
    return masked.astype(np.uint32, copy=False)


def frame(payload: Bytes) -> Bytes:
    """Wraps equally long records in the TFRecord format.

    Args:
        payload: uint8[N, L], one record per row, in any memory order.

    Returns:
        uint8[N, 12 + L + 4], ready to be written.
    """
    count, length = payload.shape
    framed = np.empty((count, HEADER + length + FOOTER), np.uint8)
    framed[:, :HEADER] = _header(length)
    rows = framed[:, HEADER:-FOOTER]
    rows[:] = payload
    framed[:, -FOOTER:] = checksums(rows).astype("<u4")[:, None].view(np.uint8)
    return framed


def _header(length: int) -> Bytes:
    size = np.frombuffer(length.to_bytes(8, "little"), np.uint8)
    return np.concatenate([size, checksums(size[None]).astype("<u4").view(np.uint8)])


def read_runs(path: Path, skip: int = 0) -> Iterator[RecordRun]:
    """Reads a TFRecord file in runs of at most about 1 MB.

    Args:
        path: the file.
        skip: how many records to step over; only their lengths are looked at.

    Yields:
        records uint8[N, L] with the indices of damaged rows.

    Raises:
        BrokenFramingError: the file is cut short or a record's length is damaged. A record whose
            payload alone is damaged does not raise: it is listed in the run's `damaged`.
    """
    row = 0
    for offset, framed in _framed(path):
        skipped = min(max(skip - row, 0), len(framed))
        row += len(framed)
        if skipped < len(framed):
            rows = framed[skipped:]
            payload = rows[:, HEADER:-FOOTER]
            stored = np.ascontiguousarray(rows[:, -FOOTER:]).view("<u4")[:, 0]
            damaged = np.flatnonzero(checksums(payload) != stored)
            yield RecordRun(path, offset + skipped * rows.shape[1], payload, damaged)


def count_records(path: Path) -> int:
    """The number of records in a file, from their lengths alone.

    Raises:
        BrokenFramingError: the file is cut short or a record's length is damaged.
    """
    return sum(len(rows) for _, rows in _framed(path))


def _framed(path: Path) -> Iterator[tuple[int, Bytes]]:
    """Equally long records with their frames, as (offset, uint8[N, 12 + L + 4])."""
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        block = np.zeros(0, np.uint8)  # what was read of the file, from `offset` on
        offset = row = 0

        def at_least(length: int) -> Bytes:
            if len(block) >= length:
                return block
            file.seek(offset)
            return np.frombuffer(file.read(max(length, _BLOCK)), np.uint8)

        while offset < size:
            block = at_least(HEADER)
            stride = _stride(path, block[:HEADER], offset, size - offset, row)
            block = at_least(stride)
            rows = block[: len(block) // stride * stride].reshape(-1, stride)
            same = (rows[:, :HEADER] == rows[0, :HEADER]).all(axis=1)
            rows = rows[: len(rows) if same.all() else int(np.argmin(same))]
            yield offset, rows
            offset += rows.size
            row += len(rows)
            block = block[rows.size :]


def _stride(path: Path, header: Bytes, offset: int, rest: int, row: int) -> int:
    """The bytes of a record with its frame; its length is checked against its own checksum."""
    length = int.from_bytes(header[:8].tobytes(), "little")
    stride = HEADER + length + FOOTER
    if len(header) < HEADER:
        damage = (
            f"cut short at offset {offset}: expected a record header of {HEADER} bytes, "
            f"received {rest}"
        )
    elif not np.array_equal(header, _header(length)):
        damage = f"damaged at offset {offset}: the checksum of the record length is wrong"
        if not offset and (packer := _compression(header[:2].tobytes())):
            damage = f"compressed ({packer}): expected plain TFRecords"
    elif stride > rest:
        damage = (
            f"cut short at offset {offset}: expected a record of {stride} bytes, received {rest}"
        )
    else:
        return stride
    raise BrokenFramingError(f"{path} is {damage}", row=row, offset=offset, rest=rest)


def _compression(start: bytes) -> str:
    """TFRecordWriter's other form that a file which is no TFRecords begins like, or nothing.

    RFC 1952: gzip's magic number; RFC 1950: deflate with a window of 32 KiB, in multiples of 31.
    """
    if start == b"\x1f\x8b":
        return "GZIP"
    return "ZLIB" if start[0] == 0x78 and int.from_bytes(start) % 31 == 0 else ""
