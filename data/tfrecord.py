"""TFRecord files, many records at a time.

A TFRecord is `length u64 | masked CRC32C of length u32 | payload | masked CRC32C of payload u32`,
little endian. Records of one shard mostly have the same length, so a file is handled as a few
*runs*: uint8 matrices with one record per row. Only the checksum of the payload is computed
record by record, in C.

Format: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import google_crc32c
import numpy as np
import numpy.typing as npt

from data.errors import DataError

Bytes = npt.NDArray[np.uint8]

HEADER = 12
FOOTER = 4
_BLOCK = 1 << 20
_MASK_DELTA = 0xA282EAD8


class DamagedRecordError(DataError):
    """A file of records cannot be read from some offset on."""


@dataclass(frozen=True)
class Run:
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
        rows: uint8[N, L].

    Returns:
        uint32[N], rotated and offset as the TFRecord format wants it.
    """
    crc = np.fromiter(map(google_crc32c.value, rows), np.uint32, len(rows))
    masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)
    return masked.astype(np.uint32, copy=False)


def frame(payload: Bytes) -> Bytes:
    """Wraps equally long records in the TFRecord format.

    Args:
        payload: uint8[N, L], one record per row.

    Returns:
        uint8[N, 12 + L + 4], ready to be written.
    """
    count, length = payload.shape
    framed = np.empty((count, HEADER + length + FOOTER), np.uint8)
    framed[:, :HEADER] = _header(length)
    framed[:, HEADER:-FOOTER] = payload
    framed[:, -FOOTER:] = checksums(payload).astype("<u4")[:, None].view(np.uint8)
    return framed


def _header(length: int) -> Bytes:
    size = np.frombuffer(length.to_bytes(8, "little"), np.uint8)
    return np.concatenate([size, checksums(size[None]).astype("<u4").view(np.uint8)])


def read_runs(path: Path) -> Iterator[Run]:
    """Reads a TFRecord file in runs of at most about 1 MB.

    Raises:
        DamagedRecordError: the file is cut short or a record's length is damaged, so that nothing
            behind it can be found. A record whose payload alone is damaged is listed in `damaged`.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = 0
        while offset < size:
            for run in _runs_in_block(path, file, offset, size):
                yield run
                offset = run.offset_of(len(run.payload))


def count_records(path: Path) -> int:
    """The number of records in a file, from their headers alone.

    Raises:
        DamagedRecordError: the file is cut short or a record's length is damaged.
    """
    strides: dict[bytes, int] = {}  # most records have one of a few lengths
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        offset = count = 0
        while offset < size:
            file.seek(offset)
            header = file.read(HEADER)
            if offset + strides.get(header, size + 1) > size:
                length = _length(path, np.frombuffer(header, np.uint8), 0, offset, size)
                strides[header] = HEADER + length + FOOTER
            offset += strides[header]
            count += 1
    return count


def _runs_in_block(path: Path, file: IO[bytes], start: int, size: int) -> Iterator[Run]:
    """The runs of complete records in one block; at least one record, however long it is."""
    file.seek(start)
    block = np.frombuffer(file.read(_BLOCK), np.uint8)
    first = HEADER + _length(path, block, 0, start, size) + FOOTER
    if first > len(block):
        file.seek(start)
        block = np.frombuffer(file.read(first), np.uint8)
    at = 0
    while at + HEADER <= len(block):
        stride = HEADER + _length(path, block, at, start, size) + FOOTER
        rows = block[at : at + (len(block) - at) // stride * stride].reshape(-1, stride)
        if not len(rows):
            return
        same = (rows[:, :HEADER] == rows[0, :HEADER]).all(axis=1)
        rows = rows[: len(rows) if same.all() else int(np.argmin(same))]
        payload = rows[:, HEADER:-FOOTER]
        stored = np.ascontiguousarray(rows[:, -FOOTER:]).view("<u4")[:, 0]
        yield Run(path, start + at, payload, np.flatnonzero(checksums(payload) != stored))
        at += len(rows) * stride


def _length(path: Path, block: Bytes, at: int, start: int, size: int) -> int:
    """The payload length that the header at `at` names, checked against its own checksum."""
    offset = start + at
    header = block[at : at + HEADER]
    if len(header) < HEADER:
        raise DamagedRecordError(
            f"{path} is cut short at offset {offset}: expected a record header of {HEADER} bytes, "
            f"received {size - offset}"
        )
    length = int.from_bytes(header[:8].tobytes(), "little")
    if not np.array_equal(header, _header(length)):
        raise DamagedRecordError(
            f"{path} is damaged at offset {offset}: the checksum of the record length is wrong"
        )
    needed = HEADER + length + FOOTER
    if offset + needed > size:
        raise DamagedRecordError(
            f"{path} is cut short at offset {offset}: expected a record of {needed} bytes, "
            f"received {size - offset}"
        )
    return length
