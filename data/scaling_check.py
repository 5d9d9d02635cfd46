"""Were pixels scaled exactly once: what TransformedExamples promise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bnpipe.data.errors import DataError
from bnpipe.data.preprocessing import PIXEL_MAX, flatten_and_scale, unscale
from bnpipe.data.records.examples import read_batches

_TOLERANCE = 1e-3 / PIXEL_MAX
"""A thousandth of a grey level; float32 rounds by 3e-5 of one."""


def check_scaled_once(shards: Sequence[Path], where: str) -> None:
    """Checks that 8-bit pixels were scaled by `flatten_and_scale` exactly once.

    Scaled once they are what `flatten_and_scale` makes of their pixels again: k / 255 with an
    integer k, and some k is larger than 1, however dim the images are. Scaled twice they are at
    most 1 / 255, and k / 255^2, which is no k / 255 unless k is 0 or 255. Not scaled, anything
    above 1 shows.

    Args:
        shards: the TransformedExamples files of all splits: one split alone may be dark.
        where: how to name them in an error.

    Raises:
        DataError: a value lies outside [0, 1], is not a number or no multiple of 1 / 255, or none
            is larger than 1 / 255.
    """
    least, most = flatten_and_scale(np.array([[[0, PIXEL_MAX]]], np.uint8))[0]
    brightest, seen = np.float32(least), 0
    for shard in shards:
        for batch in read_batches(shard):
            features = batch.columns["features"]
            at = f"{where}: {shard.parent.name}/{shard.name} at offset {batch.offset}"
            low, high = features.min(), features.max()
            if not (low >= least and high <= most):  # no comparison holds for a NaN
                raise DataError(
                    f"{at}: expected features in [{least:g}, {most:g}], received values from "
                    f"{low:g} to {high:g}: scaled not at all?"
                )
            rest = flatten_and_scale(unscale(features)[:, None])
            rest -= features
            if max(rest.max(), -rest.min()) > _TOLERANCE:
                raise DataError(
                    f"{at}: expected multiples of 1/{PIXEL_MAX:g} up to 1, received others up to "
                    f"{high:.6g}: scaled twice?"
                )
            brightest, seen = max(brightest, high), seen + len(features)
    if seen and unscale(brightest) <= 1:
        raise DataError(
            f"{where}: expected a feature above 1/{PIXEL_MAX:g}, received at most {brightest:.6g} "
            f"over {seen} images: scaled twice?"
        )
