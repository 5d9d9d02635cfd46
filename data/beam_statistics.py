"""Beam transforms of statistics_gen: shards of examples in, one summary per split and span out.

Batches never leave the worker that read them: the combiner is lifted into the reading stage, and
what is shuffled are summaries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam

from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.errors import BnpipeError
from bnpipe.data.records.shards import UnitReport, read_shard, write_reports
from bnpipe.data.statistics.statistics_proto import write_statistics
from bnpipe.data.statistics.summary import SplitSummary, by_span

_AGAIN = "run example_gen again: bnpipe run --force example_gen"


Parts = dict[int, SplitSummary]
"""The summaries of a split by span, 0 for the data set's own records."""


def summarize(
    pipeline: Any,
    source: Path,
    target: Path,
    shards: Sequence[tuple[str, str, int]],
    spans: Mapping[int, str],
    reports: Path,
) -> None:
    """Adds the whole of statistics_gen to a Beam pipeline; `reports` is written when it has run.

    Args:
        pipeline: the Beam pipeline.
        source: the Examples folder, with `dataset.json`.
        target: the Statistics folder.
        shards: (split, path in source, expected number of records) of every shard.
        spans: the names of spans by number.
        reports: a UnitReport per shard.

    Raises:
        DataError: `dataset.json` cannot be read.
    """
    info = DatasetInfo.read(source)
    read = (
        pipeline
        | "Shards" >> beam.Create(list(shards))
        | "SpreadShards" >> beam.Reshuffle()
        | "Read" >> beam.ParDo(ReadShard(source)).with_outputs("reports", main="batches")
    )
    _ = (
        read.batches
        | "Summarize" >> beam.CombinePerKey(Summarize(info))
        | "WriteStatistics" >> beam.MapTuple(partial(write_statistics, info, target, spans))
    )
    _ = (
        read.reports
        | "CollectReports" >> beam.combiners.ToList()
        | "WriteReports" >> beam.Map(write_reports, reports)
    )


class ReadShard(beam.DoFn):
    """Reads a shard: (split, columns) for every batch, and a UnitReport."""

    def __init__(self, source: Path) -> None:
        self._source = source

    def process(self, shard: tuple[str, str, int]) -> Iterator[Any]:
        """Handles one shard."""
        split, name, expected = shard
        try:
            for batch in read_shard(self._source / name, expected):
                yield split, batch.columns
            report = UnitReport(name, {name: expected})
        except (BnpipeError, OSError) as error:
            report = UnitReport.failed(name, error, hint=_AGAIN)
        yield beam.pvalue.TaggedOutput("reports", report)


class Summarize(beam.CombineFn):
    """Adds batches and summaries up to the summaries of a split, one for each span in it."""

    def __init__(self, info: DatasetInfo) -> None:
        self._summary = partial(SplitSummary, info.height, info.width, info.classes)

    def create_accumulator(self, *args: Any, **kwargs: Any) -> Parts:
        """No span yet."""
        return {}

    def add_input(self, accumulator: Parts, element: Any, *args: Any, **kwargs: Any) -> Parts:
        """Takes the columns of one batch."""
        for number, columns in by_span(element):
            accumulator.setdefault(number, self._summary()).add(columns)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Parts], *args: Any, **kwargs: Any) -> Parts:
        """Adds summaries up; none of them is changed."""
        total = self.create_accumulator()
        for accumulator in accumulators:
            for number, summary in accumulator.items():
                total.setdefault(number, self._summary()).merge(summary)
        return total

    def extract_output(self, accumulator: Parts, *args: Any, **kwargs: Any) -> Parts:
        """The summaries themselves."""
        return accumulator
