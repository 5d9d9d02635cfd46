"""transform: images become the features that the model is trained on.

Every shard of Examples becomes one shard of TransformedExamples: pixels flattened and scaled to
[0, 1], the label, the id, and the columns `ink_quartile` and `span` that metrics are sliced by.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.components.artifacts import Examples, TransformedExamples
from bnpipe.components.base import Component, Context, Facts
from bnpipe.data.dataset_info import FILE_NAME, DatasetInfo
from bnpipe.data.json_text import json_text

SLICED_BY = ("label", "ink_quartile", "span")
"""The columns of what it makes that metrics can be sliced by."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The examples to scale."""

    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The features that the step makes."""

    transformed: TransformedExamples


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `transform` section of the configuration: there is nothing to choose."""


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Scales every shard on Beam; the ink quartiles are those of the train split."""
    from bnpipe.data.beam_transform import PREFIX, transform
    from bnpipe.data.records.shards import check_seen, merged, read_reports, remove_parts

    examples, target = inputs.examples, outputs.transformed.path
    info = DatasetInfo.read(examples.path)
    counts = examples.record_counts()
    shards = [
        (name, name.replace(Examples.shard_prefix, PREFIX), count)
        for name, count in sorted(counts.items())
    ]
    total = sum(counts.values())
    ctx.progress(0, total, "images")
    with ctx.beam() as pipeline:
        transform(pipeline, examples.path, target, shards, ctx.reports)
    reports = read_reports(ctx.reports, asked=counts, folder=target, log=ctx.log)
    in_train = sum(n for name, n in counts.items() if name.startswith("Split-train/"))
    for report in reports:
        check_seen("train images for the ink quartiles", report.cut_images, in_train)
    remove_parts(target)
    cuts = reports[0].cuts
    spans = examples.read_json(FILE_NAME).get("spans", {})
    train = "Split-train/"
    of_splits = merged(reports, "counts")
    labels = sorted(int(name.removeprefix(train)) for name in of_splits if name.startswith(train))
    text = info.to_json(
        shards=merged(reports, "shards"), spans=spans, ink_cuts=cuts, train_labels=labels
    )
    (target / FILE_NAME).write_text(text)
    ctx.progress(total, total, "images")
    return {"images": total, "features": info.features, "ink_cuts": json_text(cuts)}


COMPONENT = Component("transform", Inputs, Outputs, Params, run, on_beam=True)
