"""A check of what TransformedExamples promise: pixels were scaled exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnpipe.data.errors import DataError
from bnpipe.data.records.examples import read_batches

# Not from `data.preprocessing`: what checks must not change with what it checks, and every step
# that has artifacts depends on this module.
PIXEL_MAX = 255.0

_LEVEL_TOLERANCE = 1e-3  # of a grey level; float32 rounds by 3e-5 of one


def check_scaled_once(shards: Sequence[Path], where: str) -> None:
    """Checks that 8-bit pixels were scaled to [0, 1] exactly once.

    Scaled once they are k / 255 with an integer k, and some k is larger than 1, however dim the
    images are. Scaled twice they are at most 1 / 255, and k / 255^2, which is no k / 255 unless k
    is 0 or 255. Not scaled, anything above 1 shows.

    Args:
        shards: the TransformedExamples files of all splits: one split alone may be dark.
        where: how to name them in an error.

    Raises:
        DataError: a value lies outside [0, 1], is not a number or no multiple of 1 / 255, or none
            is larger than 1 / 255.
    """
    brightest, seen = np.float32(0.0), 0
    for shard in shards:
        for batch in read_batches(shard):
            features = batch.columns["features"]
            at = f"{where}: {shard.parent.name}/{shard.name} at offset {batch.offset}"
            low, high = features.min(), features.max()
            if not (low >= 0.0 and high <= 1.0):  # no comparison holds for a NaN
                raise DataError(
                    f"{at}: expected features in [0, 1], received values from {low:g} to {high:g}: "
                    "scaled not at all?"
                )
            rest = features * np.float32(PIXEL_MAX)
            rest -= np.rint(rest)
            if max(rest.max(), -rest.min()) > _LEVEL_TOLERANCE:
                raise DataError(
                    f"{at}: expected multiples of 1/{PIXEL_MAX:g} up to 1, received others up to "
                    f"{high:.6g}: scaled twice?"
                )
            brightest, seen = max(brightest, high), seen + len(features)
    if seen and not brightest * PIXEL_MAX > 1.0 + _LEVEL_TOLERANCE:
        raise DataError(
            f"{where}: expected a feature above 1/{PIXEL_MAX:g}, received at most {brightest:.6g} "
            f"over {seen} images: scaled twice?"
        )
