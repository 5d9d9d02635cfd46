"""statistics_gen: the statistics of the examples, by split and span, in one pass over the data.

Every split gets `FeatureStats.pb`, which TFDV and Facets read, and beside it `summary.json` and
`arrays.npz` with what a proto has no place for: mean images, exact histograms, content hashes.
Where spans were added the proto has a data set for each of them, and each has a folder with those
two files: `Split-train/base/`, `Split-train/span-2026-11-20/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnpipe.components.artifacts import SPLITS, Examples, Statistics
from bnpipe.components.base import Component, Context, Facts
from bnpipe.data.dataset_info import FILE_NAME, DatasetInfo

if TYPE_CHECKING:
    from bnpipe.data.statistics.summary import SplitSummary


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The examples to summarise."""

    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The statistics that the step makes."""

    statistics: Statistics


@dataclass(frozen=True, kw_only=True)
class Params:
    """There is nothing to choose."""


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Summarises every split, and every span in it, on Beam.

    Raises:
        DataError: a shard is damaged or cut short; it names the file and the offset.
    """
    from bnpipe.data.beam_statistics import summarize
    from bnpipe.data.records.shards import check_seen, read_reports
    from bnpipe.data.statistics.statistics_proto import write_statistics
    from bnpipe.data.statistics.summary import SplitSummary

    examples, target = inputs.examples, outputs.statistics.path
    info = DatasetInfo.read(examples.path)
    counts = examples.record_counts()
    shards = [
        (name.partition("/")[0].removeprefix("Split-"), name, count)
        for name, count in sorted(counts.items())
    ]
    stored = examples.read_json(FILE_NAME).get("spans", {})
    spans = {int(counted["number"]): str(name) for name, counted in stored.items()}
    total = sum(counts.values())
    ctx.progress(0, total, "images")
    with ctx.beam() as pipeline:
        summarize(pipeline, examples.path, target, shards, spans, ctx.reports)
    read_reports(ctx.reports, asked=counts, log=ctx.log)
    facts: dict[str, int | float] = {"images": total}
    for split in SPLITS:
        if not (target / f"Split-{split}").exists():  # no record, so no batch either
            write_statistics(info, target, spans, split, {})
        summary = SplitSummary.read(target / f"Split-{split}")
        expected = sum(n for of, _, n in shards if of == split)
        check_seen(f"records of {split} for the statistics", summary.records, expected)
        facts |= _facts(split, summary)
    ctx.progress(total, total, "images")
    return facts


def _facts(split: str, summary: SplitSummary) -> dict[str, int | float]:
    """The main numbers of a split."""
    return {
        f"{split}_images": summary.images,
        f"{split}_duplicates": summary.duplicates,
        f"{split}_constant_images": summary.constant,
        f"{split}_smallest_class": int(summary.classes.min()),
        f"{split}_mean_grey_level": round(summary.mean_level, 3),
    }


COMPONENT = Component("statistics_gen", Inputs, Outputs, Params, run, on_beam=True)
