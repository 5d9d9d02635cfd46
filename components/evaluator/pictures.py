"""`pictures.npz`: the images worth looking at, so that a report needs no TFRecord.

The candidate's worst mistakes, and for every reference the images on which it and the candidate
name different classes. Keys are `<group>/row` (int64[n], rows of `predictions.npz`, worst first)
and `<group>/image` (uint8[n, H, W]); groups are `mistakes`, `disagreements/baseline` and
`disagreements/champion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnpipe.components.evaluator.evidence import CANDIDATE
from bnpipe.components.evaluator.measure import losses
from bnpipe.components.evaluator.predictions import Predictions
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.preprocessing import unscale
from bnpipe.data.records.examples import read_blocks

Rows = npt.NDArray[np.int64]
_BLOCK_ROWS = 2048


def write(
    predictions: Predictions, shards: Sequence[Path], info: DatasetInfo, count: int, path: Path
) -> None:
    """Writes at most `count` pictures per group.

    Args:
        predictions: the usable answers, in the order of the shards.
        shards: the TransformedExamples of the evaluated split.
        info: the data set, for the images' shape.
        count: pictures per group.
        path: where to write.
    """
    chosen = choose(predictions, count)
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *chosen.values()]))
    images = _images(shards, wanted, info)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for group, rows in chosen.items():
        arrays[f"{group}/row"] = rows
        arrays[f"{group}/image"] = images[np.searchsorted(wanted, rows)]
    np.savez(path, **arrays)  # type: ignore[arg-type]


def choose(predictions: Predictions, count: int) -> Mapping[str, Rows]:
    """Rows int64[n] by group: mistakes by loss, disagreements by total variation distance."""
    if CANDIDATE not in predictions.probabilities:
        return {}
    ours = predictions.probabilities[CANDIDATE]
    loss = losses(predictions, CANDIDATE)
    chosen = {"mistakes": _worst(~predictions.correct(CANDIDATE), loss, count)}
    for name, theirs in predictions.probabilities.items():
        if name != CANDIDATE:
            differ = ours.argmax(axis=1) != theirs.argmax(axis=1)
            distance = np.abs(ours - theirs).sum(axis=1, dtype=np.float64) / 2
            chosen[f"disagreements/{name}"] = _worst(differ, distance, count)
    return chosen


def _worst(eligible: npt.NDArray[np.bool_], score: npt.NDArray[np.float64], count: int) -> Rows:
    rows = np.flatnonzero(eligible)
    return rows[np.argsort(-score[rows], kind="stable")][:count]


def _images(shards: Sequence[Path], rows: Rows, info: DatasetInfo) -> npt.NDArray[np.uint8]:
    """uint8[len(rows), H, W]: the images of some rows, given in ascending order."""
    images = np.empty((len(rows), info.height, info.width), np.uint8)
    start = 0
    for block in read_blocks(shards, _BLOCK_ROWS):
        features = block.features
        here = (rows >= start) & (rows < start + len(features))
        pixels = unscale(features[rows[here] - start])
        images[here] = pixels.reshape(-1, info.height, info.width)
        start += len(features)
    return images
