"""Beam transforms of example_gen: read instructions in, shards of tf.Examples out.

What Beam shuffles are instructions of a few bytes. A worker that gets one reads that slice of the
source, hashes, splits, encodes and writes it, batch by batch, so images never wait in memory
between stages and every shard has one writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError, DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.records.examples import Column, encode
from bnpipe.data.records.record_ids import (
    as_numbers,
    content_hashes,
    ids,
    in_test,
    in_validation,
    named_ids,
)
from bnpipe.data.records.shards import ShardWriter, UnitReport, shard_name, write_reports
from bnpipe.data.records.tfrecord import frame
from bnpipe.data.sources.source import BadRecord, ImageSource, LabelledImages
from bnpipe.data.sources.spans import Span

PREFIX = "data_tfrecord"
LEAKED = "test_images_in_train_or_validation"
_BUCKETS = 16
_SPAN_SHARD = 10_000  # a span has one shard for this many records


@dataclass(frozen=True)
class Part:
    """The share of one source in one split.

    Attributes:
        split: the split of the data set, or of a span, that it reads.
        targets: the splits that it writes; train is cut into train and validation, and test where
            the data set has none.
        source: where the records lie.
        ids: the beginning of their ids, `<dataset>:<version>/<split>`.
        span: the span's number; 0 is the data set.
        place: the beginning of file names in quarantine, e.g. `span-3/train/`.
        shards: instructions, and so output shards.
    """

    split: str
    targets: tuple[str, ...]
    source: ImageSource
    ids: str
    span: int = 0
    place: str = ""
    shards: int = 1

    def slice(self, index: int) -> tuple[int, int]:
        """The records of the source, (start, stop), that an instruction covers."""
        size = self.source.size
        return index * size // self.shards, (index + 1) * size // self.shards


def arrange(
    info: DatasetInfo,
    base: Mapping[str, ImageSource],
    spans: Mapping[Span, Mapping[str, ImageSource]],
    shards: int,
) -> tuple[Part, ...]:
    """The parts of a plan: the data set's splits, and behind each those of the spans.

    Args:
        info: the data set.
        base: its sources by split: train, and test and validation if it has its own.
        spans: the spans in order, with their sources by split.
        shards: shards per split of the data set; a small span has fewer.
    """
    name = f"{info.name}:{info.version}"
    parts = []
    for split in ("validation", "train", "test"):  # what is cut from spans comes behind its own
        if split in base:
            cut = tuple(other for other in ("validation", "test") if other not in base)
            targets = (split, *cut) if split == "train" else (split,)
            parts.append(Part(split, targets, base[split], f"{name}/{split}", shards=shards))
        for span, sources in spans.items():
            if split in sources:
                part = Part(
                    split,
                    ("train", "validation") if split == "train" else (split,),
                    sources[split],
                    f"{name}/span-{span.name}/{split}",
                    span=span.number,
                    place=f"span-{span.name}/{split}/",
                    shards=min(shards, math.ceil(sources[split].size / _SPAN_SHARD)),
                )
                parts.append(part)
    return tuple(parts)


@dataclass(frozen=True)
class IngestPlan:
    """The work of a whole ingest; every worker has it.

    Attributes:
        parts: the sources, those of one split in the order of their shards.
        folder: the artifact.
        validation_fraction: share of train that becomes validation.
        max_bad_records: how many unusable records may be left out.
    """

    parts: tuple[Part, ...]
    folder: str
    validation_fraction: float
    max_bad_records: int

    def instructions(self) -> list[tuple[int, int]]:
        """(part, index within it), one for every slice that is read and written on its own."""
        return [(n, index) for n, part in enumerate(self.parts) for index in range(part.shards)]

    def counts(self, span: int, shards: Mapping[str, int]) -> dict[str, int]:
        """Number of records of a span that were written, by split, and of those left out.

        Args:
            span: its number.
            shards: number of records by shard.
        """
        counts = {"number": span, "train": 0, "validation": 0, "test": 0, "bad_records": 0}
        for part in self.parts:
            if part.span == span:
                counts["bad_records"] += part.source.size
                for name in (n for i in range(part.shards) for n in self.shards(part, i)):
                    split = name.partition("/")[0].removeprefix("Split-")
                    counts[split] += shards[name]
                    counts["bad_records"] -= shards[name]
        return counts

    def shards(self, part: Part, index: int) -> list[str]:
        """The shards that an instruction writes, one for each target of its part."""
        return [
            shard_name(target, PREFIX, self.number(part, index, target), self.total(target))
            for target in part.targets
        ]

    def number(self, part: Part, index: int, target: str) -> int:
        """The number of an instruction among those that write a split."""
        before = self.parts[: self.parts.index(part)]
        return sum(other.shards for other in before if target in other.targets) + index

    def total(self, target: str) -> int:
        """Number of instructions that write a split."""
        return sum(part.shards for part in self.parts if target in part.targets)


def ingest(pipeline: Any, plan: IngestPlan, reports: Path) -> None:
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
    """Reads one slice of the source and writes its shards: a UnitReport, and hashes by bucket."""

    def __init__(self, plan: IngestPlan) -> None:
        self._plan = plan

    def process(self, instruction: tuple[int, int]) -> Iterator[Any]:
        """Handles one instruction (part, index within it)."""
        slice_writer = _SliceWriter(self._plan, *instruction)
        unit = slice_writer.unit
        try:
            yield slice_writer.run()
            yield from slice_writer.hashes_by_bucket()
        except (BnpipeError, OSError) as error:
            yield UnitReport.failed(unit, error)


class _SliceWriter:
    """One instruction: a slice of `train` becomes a train and a validation shard."""

    def __init__(self, plan: IngestPlan, part: int, index: int) -> None:
        self.plan, self.part, self.index = plan, plan.parts[part], index
        self.unit = f"{self.part.split}-{plan.number(self.part, index, self.part.split):05d}"
        self.bad: list[BadRecord] = []
        self.hashes: dict[bool, list[Any]] = {True: [], False: []}  # of test; of the others

    def run(self) -> UnitReport:
        plan, folder = self.plan, Path(self.plan.folder)
        start, stop = self.part.slice(self.index)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(ShardWriter(folder, name))
                for name in plan.shards(self.part, self.index)
            ]
            for batch in self.part.source.read_slice(start, stop, self._on_bad):
                self._write(batch, writers)
        self._quarantine(folder)
        written = sum(writer.count for writer in writers)
        bad = self._bad_records()
        if written + bad != stop - start:
            raise DataError(
                f"{self.unit}: read {stop - start} records, but wrote {written} and set {bad} aside"
            )
        shards = {writer.name: writer.count for writer in writers}
        sizes = {writer.name: writer.size for writer in writers}
        return UnitReport(self.unit, shards, {"bad_records": bad}, sizes=sizes)

    def _write(self, batch: LabelledImages, writers: list[ShardWriter]) -> None:
        hashes = content_hashes(batch.images)
        targets = self._targets(hashes)
        for target, chosen in targets.items():
            self.hashes[target == "test"].append(as_numbers(hashes[chosen]))
        pixels = batch.images.reshape(len(hashes), -1)
        if batch.names is None:
            batch_ids = ids(self.part.ids, batch.numbers)
        else:
            batch_ids = named_ids(self.part.ids, batch.names)
        for rows, named in batch_ids:
            columns: dict[str, Column] = {
                "image": pixels[rows],
                "label": batch.labels[rows],
                "id": named,
                "content_hash": hashes[rows],
                "span": np.full(len(named), self.part.span, np.int64),
            }
            for writer, mask in zip(writers, targets.values(), strict=True):
                chosen = mask[rows]
                if chosen.all():
                    writer.write(encode(columns))
                elif chosen.any():
                    writer.write(encode({k: column[chosen] for k, column in columns.items()}))

    def _targets(self, hashes: Any) -> dict[str, Any]:
        """By target of the part, which images go there, bool[N]."""
        fraction, masks = self.plan.validation_fraction, {}
        rest = np.ones(len(hashes), bool)
        for target in self.part.targets[1:]:
            masks[target] = (in_test if target == "test" else in_validation)(hashes, fraction)
            masks[target] &= rest
            rest &= ~masks[target]
        return {self.part.targets[0]: rest, **masks}

    def _on_bad(self, record: BadRecord) -> None:
        record = record._replace(file=f"{self.part.place}{record.file}")
        self.bad.append(record)
        if self._bad_records() > self.plan.max_bad_records:
            raise DataError(
                f"{record.file} at offset {record.offset} ({self.part.split} record "
                f"{record.record}): {record.reason}; {self._bad_records()} unusable records, "
                f"data.max_bad_records allows {self.plan.max_bad_records}",
                hint=f"{self.part.source.hint}; or raise --set data.max_bad_records=N to set "
                "unusable records aside",
            )

    def _bad_records(self) -> int:
        return sum(record.records for record in self.bad)

    def _quarantine(self, folder: Path) -> None:
        """`<unit>.jsonl` says where bad records lay and why; `<unit>.tfrecord` has their bytes."""
        if self.bad:
            path = folder / "quarantine" / self.unit
            path.parent.mkdir(exist_ok=True)
            records = [record._asdict() for record in self.bad]
            contents = [np.frombuffer(record.pop("content"), np.uint8) for record in records]
            lines = "".join(json_text(record) + "\n" for record in records)
            path.with_suffix(".jsonl").write_text(lines)
            framed = b"".join(frame(content[None]).tobytes() for content in contents)
            path.with_suffix(".tfrecord").write_bytes(framed)

    def hashes_by_bucket(self) -> Iterator[Any]:
        """(bucket, (is test, hashes as bytes)) for the leak check: 8 bytes per image."""
        for of_test, parts in self.hashes.items():
            hashes = np.concatenate([np.zeros(0, np.uint64), *parts])
            bucket = hashes >> np.uint64(60)
            for number in range(_BUCKETS):
                part = hashes[bucket == number].tobytes()
                yield beam.pvalue.TaggedOutput("hashes", (number, (of_test, part)))


def count_leaks(bucket: int, parts: Iterable[tuple[bool, bytes]]) -> UnitReport:
    """Counts the test images of a bucket whose pixels also occur in train or validation.

    Args:
        bucket: number of the bucket.
        parts: (is test, hashes uint64[N] as bytes).
    """
    hashes = {True: bytearray(), False: bytearray()}
    for is_test, part in parts:
        hashes[is_test] += part
    test, train = (np.frombuffer(hashes[is_test], np.uint64) for is_test in (True, False))
    return UnitReport(f"leaks-{bucket:02d}", counts={LEAKED: int(np.isin(test, train).sum())})
