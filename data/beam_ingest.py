"""Beam transforms of example_gen: read instructions in, shards of tf.Examples out.

What Beam shuffles are instructions of a few bytes. A worker that gets one reads that slice of the
source, hashes, splits, encodes and writes it, batch by batch, so images never wait in memory
between stages and every shard has one writer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from data.errors import BnpipeError, DataError
from data.examples import encode
from data.record_ids import as_numbers, content_hashes, ids, in_validation
from data.shards import Report, ShardWriter, shard_name, write_reports
from data.source import BadRecord, Source, read_slice

PREFIX = "data_tfrecord"
LEAKED = "test_images_in_train_or_validation"
_BUCKETS = 16


@dataclass(frozen=True)
class Plan:
    """What every worker needs to know.

    Attributes:
        name: `<dataset>:<version>`, the beginning of every record id.
        sources: the source of `train` and of `test`.
        folder: the artifact.
        shards: instructions, and so output shards, per split.
        validation_fraction: share of train that becomes validation.
        max_bad_records: how many unusable records may be left out.
    """

    name: str
    sources: Mapping[str, Source]
    folder: str
    shards: int
    validation_fraction: float
    max_bad_records: int

    def instructions(self) -> list[tuple[str, int]]:
        """(split, shard index), one for every slice that is read and written on its own."""
        return [(split, index) for split in self.sources for index in range(self.shards)]

    def slice(self, split: str, index: int) -> tuple[int, int]:
        """Which records of a source an instruction covers."""
        size = self.sources[split].size
        return index * size // self.shards, (index + 1) * size // self.shards


def ingest(pipeline: Any, plan: Plan, reports: Path) -> None:
    """Adds the whole ingest to a Beam pipeline; `reports` is written when it has run."""
    work = (
        pipeline
        | "Instructions" >> beam.Create(plan.instructions())
        | "SpreadInstructions" >> beam.Reshuffle()
        | "ReadConvertWrite" >> beam.ParDo(WriteShards(plan)).with_outputs("hashes", main="written")
    )
    leaks = (
        work.hashes
        | "GroupHashes" >> beam.GroupByKey()
        | "CountLeaks" >> beam.MapTuple(count_leaks)
    )
    _ = (
        (work.written, leaks)
        | "AllReports" >> beam.Flatten()
        | "CollectReports" >> beam.combiners.ToList()
        | "WriteReports" >> beam.Map(write_reports, reports)
    )


class WriteShards(beam.DoFn):
    """Reads one slice of the source and writes its shards: a Report, and hashes by bucket."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def process(self, instruction: tuple[str, int]) -> Iterator[Any]:
        """Handles one instruction (split, shard index)."""
        unit = f"{instruction[0]}-{instruction[1]:05d}"
        try:
            slice_writer = _SliceWriter(self._plan, *instruction)
            yield slice_writer.run(unit)
            yield from slice_writer.hashes_by_bucket()
        except BnpipeError as error:
            yield Report.failed(unit, error)
        except OSError as error:
            yield Report.failed(unit, DataError(f"{unit}: {error}"))


class _SliceWriter:
    """One instruction: a slice of `train` becomes a train and a validation shard."""

    def __init__(self, plan: Plan, split: str, index: int) -> None:
        self.plan, self.split, self.index = plan, split, index
        self.bad: list[BadRecord] = []
        self.hashes: list[Any] = []

    def run(self, unit: str) -> Report:
        plan, folder = self.plan, Path(self.plan.folder)
        start, stop = plan.slice(self.split, self.index)
        names = ("train", "validation") if self.split == "train" else (self.split,)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    ShardWriter(folder, shard_name(name, PREFIX, self.index, plan.shards))
                )
                for name in names
            ]
            for batch in read_slice(plan.sources[self.split], start, stop, self._on_bad):
                self._write(batch, writers)
        self._quarantine(folder, unit)
        written = sum(writer.count for writer in writers)
        if written + len(self.bad) != stop - start:
            raise DataError(
                f"{unit}: read {stop - start} records, but wrote {written} and set "
                f"{len(self.bad)} aside"
            )
        shards = {writer.name: writer.count for writer in writers}
        return Report(unit, shards, {"bad_records": len(self.bad)})

    def _write(self, batch: Any, writers: list[ShardWriter]) -> None:
        hashes = content_hashes(batch.images)
        self.hashes.append(as_numbers(hashes))
        pixels = batch.images.reshape(len(hashes), -1)
        for part, named in ids(f"{self.plan.name}/{self.split}", batch.numbers):
            columns = {
                "image": pixels[part],
                "label": batch.labels[part],
                "id": named,
                "content_hash": hashes[part],
            }
            if len(writers) == 1:
                writers[0].write(encode(columns))
                continue
            held_out = in_validation(hashes[part], self.plan.validation_fraction)
            for writer, chosen in zip(writers, (~held_out, held_out), strict=True):
                if chosen.any():
                    writer.write(encode({k: column[chosen] for k, column in columns.items()}))

    def _on_bad(self, record: BadRecord) -> None:
        self.bad.append(record)
        if len(self.bad) > self.plan.max_bad_records:
            raise DataError(
                f"{record.file} at offset {record.offset} ({self.split} record {record.record}): "
                f"{record.reason}; {len(self.bad)} unusable records, "
                f"data.max_bad_records allows {self.plan.max_bad_records}",
                hint="delete the prepared data to have it made anew, or raise "
                "--set data.max_bad_records=N to set unusable records aside",
            )

    def _quarantine(self, folder: Path, unit: str) -> None:
        if self.bad:
            path = folder / "quarantine" / f"{unit}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(r._asdict()) + "\n" for r in self.bad))

    def hashes_by_bucket(self) -> Iterator[Any]:
        """(bucket, (is test, hashes as bytes)) for the leak check: 8 bytes per image."""
        hashes = np.concatenate(self.hashes) if self.hashes else np.zeros(0, np.uint64)
        bucket = hashes >> np.uint64(60)
        for number in range(_BUCKETS):
            part = hashes[bucket == number].tobytes()
            yield beam.pvalue.TaggedOutput("hashes", (number, (self.split == "test", part)))


def count_leaks(bucket: int, parts: Iterable[tuple[bool, bytes]]) -> Report:
    """Counts the test images of a bucket whose pixels also occur in train or validation."""
    hashes: dict[bool, list[Any]] = {True: [], False: []}
    for is_test, part in parts:
        hashes[is_test].append(np.frombuffer(part, np.uint64))
    test, train = (np.concatenate(hashes[key] or [np.zeros(0, np.uint64)]) for key in (True, False))
    return Report(f"leaks-{bucket:02d}", counts={LEAKED: int(np.isin(test, train).sum())})
