"""tf.Examples as columns: numpy arrays in, plain tf.Example records out, and back.

Features of fixed size give every record the same layout, so a batch is encoded by tiling one
template and filling in the payload columns, and decoded by slicing them out again. Records of any
other writer are read too: where the layout changes a new batch begins, so odd files are slower,
never wrong.

A column is one of three arrays: uint8[N, k] (a bytes feature), float32[N, D] (a float list) or
int64[N] (one integer).

Wire format: https://protobuf.dev/programming-guides/encoding and tensorflow/core/example/*.proto:
`Example{1: Features{1: map<string, Feature{1: bytes_list, 2: float_list, 3: int64_list}>}}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bnpipe.data.errors import DataError
from bnpipe.data.records.tfrecord import Bytes, DamagedRecordError, RecordRun, read_runs

Column = npt.NDArray[Any]

_BYTES, _FLOAT, _INT64 = 1, 2, 3  # field numbers in tensorflow.Feature
_KINDS = {"u": _BYTES, "f": _FLOAT, "i": _INT64}  # by the numpy kind of a column
_LONGEST_VARINT = 10  # bytes of a 64-bit integer, 7 bits in each


class Batch(NamedTuple):
    """Decoded records that lie one behind the other in one file.

    Attributes:
        path: the file.
        offset: byte offset of the first record.
        columns: the features by name.
    """

    path: Path
    offset: int
    columns: dict[str, Column]


class TransformedSplit(NamedTuple):
    """One split of TransformedExamples in memory, or a block of it.

    Attributes:
        features: float32[N, D] in [0, 1]; float32[0, 0] when they were not asked for.
        label: int64[N].
        id: bytes[N], e.g. `mnist:3.0.1/test/17`.
        columns: the slice columns by name, int64[N].
    """

    features: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]
    id: npt.NDArray[np.bytes_]
    columns: dict[str, npt.NDArray[np.int64]]


def encode(columns: Mapping[str, Column]) -> Bytes:
    """Encodes columns as tf.Examples of equal length.

    Args:
        columns: features by name: uint8[N, k], float32[N, D] or int64[N].

    Returns:
        uint8[N, L], one serialized tf.Example per row, features in the order given.
    """
    blocks: list[Bytes] = []
    for name, column in columns.items():
        payload = _wire_payload(column)
        head = _entry_head(name, _KINDS[column.dtype.kind], payload.shape[1])
        blocks += [_repeated(head, len(payload)), payload]
    envelope = b"\x0a" + _varint(sum(block.shape[1] for block in blocks))
    return np.concatenate([_repeated(envelope, len(blocks[0])), *blocks], axis=1)


def _repeated(row: bytes, count: int) -> Bytes:
    return np.broadcast_to(np.frombuffer(row, np.uint8), (count, len(row)))


def _wire_payload(column: Column) -> Bytes:
    """The bytes of each value as they stand on the wire, uint8[N, k]."""
    if column.dtype == np.uint8:
        return column
    if column.dtype == np.float32:
        return np.ascontiguousarray(column, "<f4").view(np.uint8)
    values = column.astype(np.int64).view(np.uint64)
    width = len(_varint(int(values.max(initial=0))))
    # Shorter values are padded to the same width; every protobuf parser accepts long varints.
    shifted = values[:, None] >> (np.arange(width, dtype=np.uint64) * np.uint64(7))
    wire = (shifted & np.uint64(0x7F)).astype(np.uint8)
    wire[:, :-1] |= 0x80
    return wire


def _entry_head(name: str, kind: int, size: int) -> bytes:
    """The bytes of a map entry up to its payload of `size` bytes."""
    values = b"\x0a" + _varint(size)  # field 1 of BytesList, FloatList and Int64List alike
    feature = bytes([kind << 3 | 2]) + _varint(len(values) + size) + values
    key = b"\x0a" + _varint(len(name)) + name.encode()
    value = b"\x12" + _varint(len(feature) + size) + feature
    return b"\x0a" + _varint(len(key) + len(value) + size) + key + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@dataclass(frozen=True)
class _Layout:
    """The byte positions of the features in a record, and of all that is not payload."""

    fields: dict[str, tuple[int, int, int]]  # (kind, start, stop) of a feature's payload
    structure: npt.NDArray[np.int64]  # byte positions that must be equal in all rows
    varints: npt.NDArray[np.int64]  # positions whose continuation bit must be equal in all rows


def decode_run(run: RecordRun) -> Iterator[Batch]:
    """Decodes a run of records in as few batches as their layouts allow.

    Features without a value or with several (a list of integers, of strings) are left out.

    Raises:
        DamagedRecordError: a record's checksum does not match its bytes.
        DataError: a record is not a tf.Example.
    """
    if len(run.damaged):
        raise DamagedRecordError(
            f"{run.path} is damaged at offset {run.offset_of(int(run.damaged[0]))}: "
            "the checksum of the record does not match its bytes"
        )
    row = 0
    while row < len(run.payload):
        rows = run.payload[row:]
        layout = _layout(rows[0].tobytes(), f"{run.path} at offset {run.offset_of(row)}")
        shape = rows[:, layout.structure]
        bits = rows[:, layout.varints] & 0x80
        same = (shape == shape[0]).all(axis=1) & (bits == bits[0]).all(axis=1)
        stop = len(rows) if same.all() else int(np.argmin(same))
        columns = {name: _values(rows[:stop], *where) for name, where in layout.fields.items()}
        yield Batch(run.path, run.offset_of(row), columns)
        row += stop


def _values(rows: Bytes, kind: int, start: int, stop: int) -> Column:
    wire = rows[:, start:stop]
    if kind == _BYTES:
        return wire
    if kind == _FLOAT:
        return np.ascontiguousarray(wire).view("<f4").astype(np.float32, copy=False)
    values = np.zeros(len(rows), np.uint64)
    for i in range(stop - start):
        values |= (wire[:, i] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
    return values.view(np.int64)


def _layout(record: bytes, where: str) -> _Layout:
    """Finds the payload of every feature in one serialized tf.Example."""
    fields: dict[str, tuple[int, int, int]] = {}
    fixed = np.ones(len(record), bool)
    varint = np.zeros(len(record), bool)
    try:
        ((_, at, end),) = _submessages(record, 0, len(record))
        for _, start, stop in _submessages(record, at, end):
            (_, name_at, name_end), (_, feature_at, feature_end) = _submessages(record, start, stop)
            value = _single_value(record, feature_at, feature_end)
            if value is not None:
                fields[record[name_at:name_end].decode()] = value
            kind, start, stop = value or (0, feature_at, feature_end)
            fixed[start:stop] = False
            varint[start:stop] = kind == _INT64
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{where}: expected a tf.Example, received {len(record)} bytes that are none"
        ) from error
    return _Layout(fields, np.flatnonzero(fixed), np.flatnonzero(varint))


def describe(record: bytes) -> dict[str, str]:
    """What the features of one serialized tf.Example hold, e.g. `10 integers`, by their names.

    Raises:
        ValueError, IndexError: it is no tf.Example.
    """
    held = {}
    ((_, at, end),) = _submessages(record, 0, len(record))
    for _, start, stop in _submessages(record, at, end):
        (_, name_at, name_end), (_, feature_at, feature_end) = _submessages(record, start, stop)
        kind = count = 0
        for kind, *span in _submessages(record, feature_at, feature_end):
            for _, value_at, value_end in _submessages(record, *span):
                value = record[value_at:value_end]
                in_value = {_FLOAT: len(value) // 4, _INT64: sum(byte < 0x80 for byte in value)}
                count += in_value.get(kind, 1)
        one = {_BYTES: "string", _FLOAT: "float", _INT64: "integer"}.get(kind, "value")
        held[record[name_at:name_end].decode()] = f"{count} {one}{'s' if count != 1 else ''}"
    return held


def _single_value(record: bytes, start: int, stop: int) -> tuple[int, int, int] | None:
    """The payload of a Feature as (kind, start, stop); None when it has no value or several.

    A list of floats counts as one value. ValueError if it is no Feature.
    """
    lists = _submessages(record, start, stop)
    values = [(kind, *value[1:]) for kind, *span in lists for value in _submessages(record, *span)]
    if len(lists) > 1 or any(kind not in (_BYTES, _FLOAT, _INT64) for kind, _, _ in values):
        raise ValueError("not a list of bytes, floats or integers")
    if len(values) != 1:
        return None
    kind, start, stop = values[0]
    if kind == _FLOAT and (stop - start) % 4:
        raise ValueError("a float is cut short")
    if kind == _INT64:
        ends = [i for i in range(start, stop) if record[i] < 0x80]
        if len(ends) > 1:
            return None
        if len(ends) != 1 or stop - start > _LONGEST_VARINT:
            raise ValueError("an integer does not end")
    return values[0]


def _submessages(record: bytes, at: int, end: int) -> list[tuple[int, int, int]]:
    """The fields of a message as (number, start, stop); ValueError if it is none."""
    fields = []
    while at < end:
        tag = record[at]
        at += 1
        if tag & 7 != 2:
            raise ValueError("not length-delimited")
        size = shift = 0
        while True:
            byte = record[at]
            at += 1
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if at + size > end:
            raise ValueError("field is longer than its message")
        fields.append((tag >> 3, at, at + size))
        at += size
    return fields


def read_batches(path: Path) -> Iterator[Batch]:
    """Reads a TFRecord file of tf.Examples in batches of at most about 1 MB.

    Raises:
        DataError: naming file and offset, when the file is cut short, damaged, or holds other
            records.
    """
    for run in read_runs(path):
        yield from decode_run(run)


def read_blocks(
    shards: Sequence[Path], rows: int, *, features: bool = True
) -> Iterator[TransformedSplit]:
    """Reads TransformedExamples some rows at a time, the last block with what is left.

    Args:
        shards: the files, in order.
        rows: rows of a block.
        features: whether to keep the pixels; without them labels, ids and slice columns come fast.

    Raises:
        DataError: a file is damaged or holds other records.
    """
    parts: dict[str, list[Column]] = {}
    left = rows
    for batch in (batch for shard in shards for batch in read_batches(shard)):
        columns = {n: c for n, c in batch.columns.items() if n != "features" or features}
        start, count = 0, max(map(len, columns.values()), default=0)
        while start < count:
            stop = min(start + left, count)
            for name, column in columns.items():
                part = column[start:stop]
                parts.setdefault(name, []).append(as_strings(part) if name == "id" else part)
            left -= stop - start
            start = stop
            if not left:
                yield _joined(parts)
                parts, left = {}, rows
    if left < rows:
        yield _joined(parts)


def _joined(parts: Mapping[str, list[Column]]) -> TransformedSplit:
    joined = {name: np.concatenate(column) for name, column in parts.items()}
    return TransformedSplit(
        features=joined.pop("features", np.zeros((0, 0), np.float32)),
        label=joined.pop("label", np.zeros(0, np.int64)),
        id=joined.pop("id", np.zeros(0, "S1")),
        columns=joined,
    )


def as_strings(column: Bytes) -> npt.NDArray[np.bytes_]:
    """A bytes column uint8[N, k] as a numpy array of N byte strings."""
    strings: npt.NDArray[np.bytes_] = np.ascontiguousarray(column).view(f"S{column.shape[1]}")[:, 0]
    return strings
