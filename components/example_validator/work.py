"""The validator's work, in order: read the statistics, make the checks, write the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from google.protobuf import text_format

from bnpipe.components.artifacts import SPLITS, Examples, Statistics
from bnpipe.components.base import Context, Decision, Facts
from bnpipe.components.example_validator.anomalies import FILE_NAME as SCHEMA_DIFF
from bnpipe.components.example_validator.anomalies import anomalies
from bnpipe.components.example_validator.gate import DRIFT_CHECKS, decide, worst_drift
from bnpipe.components.example_validator.params import Params
from bnpipe.components.example_validator.profile import Observation, Profile, Share
from bnpipe.components.example_validator.step import Inputs, Outputs
from bnpipe.data.dataset_info import FILE_NAME, DatasetInfo
from bnpipe.data.errors import DataError
from bnpipe.data.json_text import json_text
from bnpipe.data.records.examples import read_batches
from bnpipe.data.records.record_ids import as_numbers, content_hashes
from bnpipe.data.statistics.schema import schema_of
from bnpipe.data.statistics.summary import SplitSummary, read_parts

_NAMED = 10


def validate(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """See `step.run`."""
    ctx.progress(0, 2, "reading statistics")
    info = DatasetInfo.read(inputs.examples.path)
    schema, origin = schema_of(info, Path(params.schema) if params.schema else None)
    splits = {s: SplitSummary.read(inputs.statistics.path / f"Split-{s}") for s in SPLITS}
    profile = Profile(
        info=info,
        schema=schema,
        splits=splits,
        parts=_parts(inputs.statistics, splits),
        spans=_spans(inputs.examples),
        champion=_champion(inputs.champion_statistics, params),
        params=params,
    )
    ctx.progress(1, 2, "checking")
    decision = decide(profile)
    verdict = {
        "passed": decision.passed,
        "sentence": decision.sentence,
        "checks": [ruling.to_json() for ruling in decision.rulings],
        "dataset": info.name,
        "schema": origin,
        "champion": profile.champion is not None,
        "parts": {part.name: part.summary.records for part in profile.parts},
        "equal_images": equal_images(inputs.examples, decision.observations),
    }
    folder = outputs.anomalies.path
    (folder / "verdict.json").write_text(json_text(verdict, indent=2, sort_keys=True) + "\n")
    (folder / "schema.pbtxt").write_text(text_format.MessageToString(schema))
    for split in SPLITS:
        proto = anomalies(split, decision.observations, profile)
        path = folder / f"Split-{split}" / SCHEMA_DIFF
        path.parent.mkdir()
        path.write_bytes(proto.SerializeToString(deterministic=True))
    ctx.progress(2, 2, decision.sentence)
    return _facts(decision, origin)


def _parts(statistics: Statistics, splits: Mapping[str, SplitSummary]) -> list[Share]:
    """The splits by source: the data set's share of each, and every span's."""
    parts: list[Share] = []
    for split, whole in splits.items():
        sources = read_parts(statistics.path / f"Split-{split}")
        parts.extend(Share(split, f"{split}/{name}", part) for name, part in sources.items())
        if not sources:
            parts.append(Share(split, split, whole))
    return parts


def _spans(examples: Examples) -> dict[str, int]:
    """Number of records of every span by name, from old to new."""
    spans = examples.read_json(FILE_NAME).get("spans", {})
    ordered = sorted(spans.items(), key=lambda item: int(item[1]["number"]))
    return {name: sum(counts[split] for split in SPLITS) for name, counts in ordered}


def _champion(statistics: Statistics | None, params: Params) -> SplitSummary | None:
    """The statistics of what the champion was trained on, if there is one.

    Raises:
        DataError: there is one, but its statistics cannot be read.
    """
    if statistics is None:
        return None
    try:
        return SplitSummary.read(statistics.path / "Split-train")
    except DataError as error:
        if all(getattr(params.checks, name) == "off" for name in DRIFT_CHECKS):
            return None
        switches = " ".join(f"--set validator.checks.{name}=off" for name in DRIFT_CHECKS)
        raise DataError(
            f"the champion's statistics cannot be read: {error.headline}",
            hint=f"to go on without comparing: {switches}",
        ) from error


def equal_images(examples: Examples, observations: Sequence[Observation]) -> list[list[str]]:
    """The ids of images that observations are about, equal ones together, at most ten each.

    The data is read again for them only when there is something to look for.
    """
    wanted = sorted({h for o in observations if o.outcome != "ok" for h in o.hashes})
    if not wanted:
        return []
    ids: dict[int, list[str]] = {number: [] for number in wanted}
    for shard in (shard for split in SPLITS for shard in examples.shards(split)):
        for batch in read_batches(shard):
            images, named = batch.columns.get("image"), batch.columns.get("id")
            if images is None or named is None or images.dtype != np.uint8:
                continue
            hashes = as_numbers(content_hashes(images))
            for row in np.flatnonzero(np.isin(hashes, np.array(wanted, np.uint64))):
                ids[int(hashes[row])].append(named[row].tobytes().decode(errors="replace"))
    return [ids[number][:_NAMED] for number in wanted]


def _facts(decision: Decision, origin: str) -> Facts:
    values = {ruling.name: ruling.value for ruling in decision.rulings}
    outcomes = [ruling.outcome for ruling in decision.rulings]
    return {
        "passed": decision.passed,
        "verdict": decision.sentence,
        "schema": origin,
        "blocked": outcomes.count("block"),
        "warned": outcomes.count("warn"),
        "worst_drift": worst_drift(decision.rulings),
        **{name: values[name] for name in ("duplicates", "leak", *DRIFT_CHECKS)},
    }
