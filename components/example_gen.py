"""example_gen: a TFDS data set becomes sharded tf.Examples in train, validation and test.

TFDS's train split is cut into train and validation by a hash of the pixels; its test split stays
as it is. Two runs over the same data give the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from components.artifacts import SPLITS, Examples
from components.base import Component, Context, Facts, machine_local
from data.checksums import RENDERED, check_dataset_name, damaged_archives, registered_archives
from data.dataset_info import FILE_NAME
from data.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Nothing: the data comes from outside, see `probe`."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the step makes."""

    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `data` section of the configuration."""

    dataset: str = "mnist"
    """TFDS name of a one-channel image classification set, e.g. emnist/digits, rendered_digits."""

    archives: str | None = machine_local(None)
    """Folder with the data set's original archives; what it lacks is downloaded."""

    size: Annotated[int, Ge(12)] | None = None
    """Number of images to draw, test split included; for rendered_digits only (default 12,000)."""

    seed: Annotated[int, Ge(0)] = 0
    """What rendered_digits draws from; other data sets do not use it."""

    validation_fraction: Annotated[float, Gt(0.0), Lt(1.0)] = 1 / 12
    """Share of the train split that is held out as validation."""

    shards: Annotated[int, Ge(1)] = 4
    """Files per split, and pieces of work that Beam can hand out."""

    max_bad_records: Annotated[int, Ge(0)] = 0
    """How many unusable records may be set aside in quarantine/ before the step fails."""


def probe(params: Params, cache: Path) -> Mapping[str, str]:
    """Names the data that the step would read: what TFDS registers, and archives that differ.

    Intact archives add nothing, so that runs with and without a local copy have the same key.

    Raises:
        DataError: unknown data set, a `size` for one that is not drawn, or `archives` is not a
            folder.
    """
    check_dataset_name(params.dataset)
    if params.dataset == RENDERED:
        return {}
    if params.size is not None:
        raise DataError(
            f"data.size: only {RENDERED} can be drawn in any number, received {params.size} for "
            f"{params.dataset}",
            hint="leave data.size out, or --set data.dataset=rendered_digits",
        )
    registered = registered_archives(params.dataset)[0]
    named = {"registered checksums": hashlib.sha256(registered.encode()).hexdigest()}
    if params.archives:
        damaged = damaged_archives(params.dataset, Path(params.archives))
        named |= {f"archive {name}": f"sha256 {got}" for name, (_, got) in damaged.items()}
    return named


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Prepares the data set through TFDS, then splits, encodes and writes it on Beam."""
    from data.beam_ingest import LEAKED, Plan, ingest
    from data.shards import merged, read_reports, remove_parts
    from data.tfds_source import describe, source

    builder = _prepare(params, ctx)
    info = describe(builder)
    plan = Plan(
        name=f"{info.name}:{info.version}",
        sources={split: source(builder, split) for split in ("train", "test")},
        folder=str(outputs.examples.path),
        shards=params.shards,
        validation_fraction=params.validation_fraction,
        max_bad_records=params.max_bad_records,
    )
    total = sum(part.size for part in plan.sources.values())
    ctx.progress(0, total, "images")
    with ctx.beam() as pipeline:
        ingest(pipeline, plan, ctx.scratch / "reports.json")
    reports = read_reports(ctx.scratch / "reports.json")
    remove_parts(outputs.examples.path)
    shards, counts = merged(reports, "shards"), merged(reports, "counts")
    splits = {split: _records(shards, split) for split in SPLITS}
    bad = counts["bad_records"]
    _check_counts(total, splits, bad, params.max_bad_records)
    info = dataclasses.replace(info, splits=splits)
    (outputs.examples.path / FILE_NAME).write_text(info.to_json(shards=shards))
    ctx.progress(total, total, "images")
    return {
        "dataset": info.name,
        "dataset_version": info.version,
        "synthetic": info.synthetic,
        **splits,
        "bad_records": bad,
        LEAKED: counts[LEAKED],
    }


def _prepare(params: Params, ctx: Context) -> Any:
    """The prepared TFDS builder."""
    from data.tfds_source import prepare

    ctx.progress(0, 0, f"preparing {params.dataset}")
    archives = Path(params.archives) if params.archives else None
    return prepare(
        params.dataset, archives, ctx.cache, size=params.size, seed=params.seed, log=ctx.log
    )


def _records(shards: Mapping[str, int], split: str) -> int:
    return sum(n for name, n in shards.items() if name.startswith(f"Split-{split}/"))


def _check_counts(total: int, splits: Mapping[str, int], bad: int, allowed: int) -> None:
    """Nothing is dropped silently: what came in went out or was set aside, within the budget."""
    if sum(splits.values()) + bad != total:
        raise DataError(
            f"expected {total} records, but {sum(splits.values())} were written and {bad} set aside"
        )
    if bad > allowed:
        raise DataError(
            f"{bad} unusable records, data.max_bad_records allows {allowed}",
            hint="see quarantine/ for where they lie, or raise --set data.max_bad_records=N",
        )
    for split, count in splits.items():
        if not count:
            raise DataError(
                f"the {split} split is empty: {total} images are too few, or "
                "data.validation_fraction leaves none",
                hint="--set data.size=N (rendered_digits) or --set data.validation_fraction=F",
            )


COMPONENT = Component(
    name="example_gen", Inputs=Inputs, Outputs=Outputs, Params=Params, run=run, probe=probe
)
