"""example_gen: a TFDS data set becomes sharded tf.Examples in train, validation and test.

TFDS's train split is cut into train and validation by a hash of the pixels; its test split stays
as it is. The splits of spans are treated alike and come behind; the column `span` tells them apart.
Two runs over the same data give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from bnpipe.components.artifacts import SPLITS, Examples
from bnpipe.components.base import Component, Context, Facts, LocalPath, machine_local
from bnpipe.data.dataset_info import FILE_NAME, DatasetInfo
from bnpipe.data.errors import DataError, DataRequestError
from bnpipe.data.sources.checksums import RENDERED, local_archives, registered_archives
from bnpipe.data.sources.dataset_check import check_suits
from bnpipe.data.sources.spans import Span, check_layout, content_digests, find_spans, left_out

_FEW_PICTURES = 100
"""With fewer different pictures a cut by their hashes may well leave a split empty."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Nothing: the data comes from outside, see `probe`."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The examples that the step makes."""

    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `data` section of the configuration."""

    dataset: str = "mnist"
    """TFDS name of a one-channel image classification set (emnist/digits); or rendered_digits."""

    archives: LocalPath | None = machine_local(None)
    """Folder with the data set's original archives, or with a folder of that name that has them;
    what it lacks is downloaded."""

    size: Annotated[int, Ge(12)] | None = None
    """Number of images to draw, test split included; for rendered_digits only (default 12,000)."""

    seed: Annotated[int, Ge(0)] = 0
    """The seed that rendered_digits draws from; other data sets do not use it."""

    validation_fraction: Annotated[float, Gt(0.0), Lt(1.0)] = 1 / 12
    """Share of the train split that is held out as validation, chosen by a hash of the pixels. A
    data set with a validation split of its own keeps it, and only the train splits of spans are
    cut; one without a test split gets one of the same share, in the same way. Other splits of TFDS
    (extra, unlabelled) are left out, and that is said in the log, in the step's facts and in
    dataset.json."""

    shards: Annotated[int, Ge(1)] = 4
    """Files per split, and pieces of work that Beam can hand out."""

    max_bad_records: Annotated[int, Ge(0)] = 0
    """The most unusable records that may be set aside in quarantine/ before the step fails. Where a
    file is broken, all that it held from there on counts."""

    schema: LocalPath | None = machine_local(None)
    """A schema file (tensorflow_metadata Schema, text format) that the data must meet, instead of
    the data set's own; it is example_validator that reads it."""

    # Which spans there are, and what they hold, is in the key by way of `probe`.
    spans: LocalPath | None = machine_local(None)
    """Newer labelled data to add, e.g. /data/spans/{SPAN}: folders whose {SPAN} is a number or a
    date, with {train,test}/<label>/*.png or TFRecords {train,test}/* (features image and label)."""

    span_window: Annotated[int, Ge(1)] | None = machine_local(None)
    """The number of newest spans to take; by default all."""

    first_span: Annotated[int, Ge(1)] = machine_local(1)
    """Spans with smaller numbers are left out; the number of 2026-11-20 is 20261120."""

    span_settle_seconds: Annotated[float, Ge(0)] = machine_local(300.0)
    """The time for which a span must have been left alone to be complete, unless it holds the file
    _SUCCESS: write that one last."""


def probe(params: Params, cache: Path) -> Mapping[str, str]:
    """Names the data that the step would read: what TFDS registers, archives that differ, spans.

    Intact archives add nothing, so that runs with and without a local copy have the same key.

    Raises:
        DataRequestError: an unknown data set or one that does not hold labelled one-channel
            images, a `size` for one that is not drawn, or `archives` is not a folder.
        DataError: a span that cannot be one.
    """
    check_suits(params.dataset, cache)
    named = {} if params.dataset == RENDERED else _registered(params)
    if params.spans is not None:
        spans = find_spans(
            params.spans,
            window=params.span_window,
            first=params.first_span,
            settle=params.span_settle_seconds,
        )
        named |= _named(spans, cache)
        for span in spans:
            check_layout(span)
            left_out(span)  # says so, while there is time to rename it
    return named


def _registered(params: Params) -> dict[str, str]:
    if params.size is not None:
        raise DataRequestError(
            f"data.size: only {RENDERED} can be drawn in any number, received {params.size} for "
            f"{params.dataset}",
            hint="leave data.size out, or --set data.dataset=rendered_digits",
        )
    registered = registered_archives(params.dataset)[0]
    named = {"registered checksums": hashlib.sha256(registered.encode()).hexdigest()}
    if params.archives:
        local = local_archives(params.dataset, Path(params.archives))
        if local.usable:
            named |= {f"archive {n}": f"sha256 {got}" for n, (_, got) in local.damaged.items()}
    return named


def _named(spans: Sequence[Span], cache: Path) -> dict[str, str]:
    """The content digests of spans as the probe names them."""
    digests = content_digests(spans, cache)
    return {span.key: f"sha256 {digests[span.name]}" for span in spans}


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Prepares a TFDS data set, then reads (or draws), splits and writes it and spans on Beam."""
    from bnpipe.data.beam_ingest import LEAKED, ingest
    from bnpipe.data.records.shards import merged, read_reports, remove_parts

    outside = probe(params, ctx.cache) if ctx.outside is None else ctx.outside
    spans = _planned_spans(params, outside)
    _check_unchanged(spans, outside, ctx.cache)
    info, base = _base(params, ctx)
    other_splits = _left_out(info, ctx)
    cut = not info.splits.get("test")
    if cut:
        ctx.log.warning("%s has no test split: one is cut from train", info.name)
    plan = _plan(info, base, spans, params, outputs.examples.path)
    total = sum(part.source.size for part in plan.parts)
    ctx.progress(0, total, "images")
    with ctx.beam() as pipeline:
        ingest(pipeline, plan, ctx.reports)
    reports = read_reports(ctx.reports, folder=outputs.examples.path, log=ctx.log)
    remove_parts(outputs.examples.path)
    _check_unchanged(spans, outside, ctx.cache)
    shards, counts = merged(reports, "shards"), merged(reports, "counts")
    splits = {split: _records(shards, split) for split in SPLITS}
    bad = counts["bad_records"]
    _check_counts(total, splits, bad, params.max_bad_records, outputs.examples.path)
    info = dataclasses.replace(info, splits=splits)
    skipped = sum(len(left_out(s)) for s in spans)
    added = {s.name: plan.counts(s.number, shards) | {"content": outside[s.key]} for s in spans}
    text = info.to_json(shards=shards, spans=added, **other_splits)
    (outputs.examples.path / FILE_NAME).write_text(text)
    ctx.progress(total, total, "images")
    return {
        "dataset": info.name,
        "dataset_version": info.version,
        "synthetic": info.synthetic,
        **({} if params.spans is None else {"spans": len(spans)}),
        **splits,
        **({"test_is_cut_from": "train"} if cut else {}),
        **{key: _listed(splits) for key, splits in other_splits.items()},
        **({"span_names": ", ".join(span.name for span in spans)} if spans else {}),
        **({"left_out_of_spans": skipped} if skipped else {}),
        "bad_records": bad,
        LEAKED: counts[LEAKED],
    }


def _planned_spans(params: Params, outside: Mapping[str, str]) -> list[Span]:
    """The spans that the step key names, whatever has been added since."""
    if params.spans is None:
        return []
    return [span for span in find_spans(params.spans, settle=0.0) if span.key in outside]


def _check_unchanged(spans: Sequence[Span], outside: Mapping[str, str], cache: Path) -> None:
    """Makes sure that the spans are still those that the step key names.

    Raises:
        DataError: a span has changed or is gone.
    """
    now = _named(spans, cache)
    planned = {key: digest for key, digest in outside.items() if key.startswith(Span.PREFIX)}
    changed = [key for key, digest in planned.items() if digest != now.get(key)]
    if changed:
        raise DataError(
            f"{changed[0]} has changed since the run was planned",
            hint="run again when it is complete",
        )


def _records(shards: Mapping[str, int], split: str) -> int:
    return sum(n for name, n in shards.items() if name.startswith(f"Split-{split}/"))


def _base(params: Params, ctx: Context) -> tuple[DatasetInfo, Mapping[str, Any]]:
    """The data set, and its data.sources.source.ImageSource by split; TFDS's are prepared first."""
    from bnpipe.data.sources.rendered_digits import rendered
    from bnpipe.data.sources.tfds_source import describe, prepare, source

    if params.dataset == RENDERED:
        return rendered(params.size, params.seed)
    ctx.progress(0, 0, f"preparing {params.dataset}")
    builder = prepare(
        params.dataset,
        Path(params.archives) if params.archives else None,
        ctx.cache,
        log=ctx.log,
        tell=lambda note: ctx.progress(0, 0, note),
    )
    info = describe(builder)
    own = [split for split in ("validation", "test") if info.splits.get(split)]
    return info, {split: source(builder, split) for split in ("train", *own)}


def _plan(
    info: DatasetInfo,
    base: Mapping[str, Any],
    spans: Sequence[Span],
    params: Params,
    folder: Path,
) -> Any:
    """The data.beam_ingest.IngestPlan: the sources by split, and where they go."""
    from bnpipe.data.beam_ingest import IngestPlan, arrange
    from bnpipe.data.sources.span_layout import span_sources

    added = {span: span_sources(span, info) for span in spans}
    return IngestPlan(
        parts=arrange(info, base, added, params.shards),
        folder=str(folder),
        validation_fraction=params.validation_fraction,
        max_bad_records=params.max_bad_records,
    )


def _left_out(info: DatasetInfo, ctx: Context) -> dict[str, dict[str, int]]:
    """Splits of the data set that are no part of the examples, `{"left_out": {name: images}}`."""
    others = {split: count for split, count in info.splits.items() if split not in SPLITS}
    if not others:
        return {}
    ctx.log.warning("%s: splits that are left out: %s", info.name, _listed(others))
    return {"left_out": others}


def _listed(splits: Mapping[str, int]) -> str:
    return ", ".join(f"{split} ({count:,} images)" for split, count in sorted(splits.items()))


def _check_counts(
    total: int, splits: Mapping[str, int], bad: int, allowed: int, folder: Path
) -> None:
    """Makes sure that nothing is dropped: all came out or was set aside, within the budget."""
    if sum(splits.values()) + bad != total:
        raise DataError(
            f"expected {total} records, but {sum(splits.values())} were written and {bad} set aside"
        )
    if bad > allowed:
        aside = sorted((folder / "quarantine").glob("*.jsonl"))
        records = [json.loads(line) for path in aside for line in path.read_text().splitlines()]
        listed = ", ".join(f"{r['file']} at offset {r['offset']}" for r in records[:3])
        raise DataError(
            f"{bad} unusable records ({listed}{', ...' if bad > 3 else ''}), "
            f"data.max_bad_records allows {allowed}",
            hint="repair them, or raise --set data.max_bad_records=N to set them aside",
        )
    empty = next((split for split in SPLITS if not splits[split]), None)
    if empty is None:
        return
    pixels = _distinct(folder)
    if pixels < min(sum(splits.values()), _FEW_PICTURES):
        raise DataError(
            f"the {empty} split is empty: of {sum(splits.values()):,} images {pixels} differ, and "
            "those with equal pixels stay together when train is cut",
            hint="look at the images: are they what was meant?",
        )
    raise DataError(
        f"the {empty} split is empty: {total:,} images are too few, or "
        "data.validation_fraction leaves none",
        hint="--set data.size=N (rendered_digits) or --set data.validation_fraction=F",
    )


def _distinct(folder: Path) -> int:
    """The number of different images of examples."""
    from bnpipe.data.records.examples import as_strings, read_batches

    return len(
        {
            value
            for shard in sorted(folder.glob("Split-*/*"))
            for batch in read_batches(shard)
            for value in as_strings(batch.columns["content_hash"]).tolist()
        }
    )


COMPONENT = Component("example_gen", Inputs, Outputs, Params, run, on_beam=True, probe=probe)
