"""The look of an image in a few numbers: how much ink, how bright, where, how slanted.

Drift is looked for in these statistics, not in single pixels: hundreds of tests would need
thresholds so wide that they see nothing. Every change that breaks a model of small images moves at
least one of them: a shift the centre, a rotation the slant, inversion and scaling the ink, noise
the coverage.

Sums over pixels are sums of integers, so they are exact; each value is then rounded to a 65,536th
of its range, so that sums over images are integers too and the order of adding cannot matter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnpipe.data.preprocessing import PIXEL_MAX

STEPS = 1 << 16
"""Resolution of a statistic: its range is divided into this many steps."""

BINS = 1 << 10
"""Bins of a statistic's histogram."""


class ImageStatistic(NamedTuple):
    """One number per image.

    Attributes:
        name: as in the schema.
        low: smallest possible value.
        high: largest possible value.
        meaning: what it is, in words.
    """

    name: str
    low: float
    high: float
    meaning: str

    def value(self, steps: float) -> float:
        """The value that so many steps stand for."""
        return self.low + (self.high - self.low) * steps / STEPS


STATISTICS = (
    ImageStatistic("ink", 0.0, PIXEL_MAX, "mean grey level of all pixels"),
    ImageStatistic("intensity", 0.0, PIXEL_MAX, "mean grey level of the pixels that are not 0"),
    ImageStatistic("coverage", 0.0, 1.0, "share of pixels that are not 0"),
    ImageStatistic("centre_row", 0.0, 1.0, "centre of mass from the top, in heights"),
    ImageStatistic("centre_column", 0.0, 1.0, "centre of mass from the left, in widths"),
    ImageStatistic("spread_rows", 0.0, 0.5, "standard deviation of the ink over rows, in heights"),
    ImageStatistic(
        "spread_columns", 0.0, 0.5, "standard deviation of the ink over columns, in widths"
    ),
    ImageStatistic("slant", -1.0, 1.0, "correlation between the ink's rows and columns"),
)


def measure(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.int64]:
    """The statistics of every image that is not blank.

    A blank image has no centre; how many there are is counted with the constant images.

    Args:
        pixels: uint8[N, height * width].
        height: image height in pixels.
        width: image width in pixels.

    Returns:
        int64[M, len(STATISTICS)] in steps, M <= N.
    """
    drawn = pixels.any(axis=1)
    if not drawn.all():
        pixels = pixels[drawn]
    mass, rows, columns, rows2, columns2, both = _moments(pixels.reshape(-1, height, width))
    nonzero = np.count_nonzero(pixels, axis=1)
    # mass**2 times the covariances of the pixel positions, each weighted by its grey level.
    variance_rows = np.maximum(mass * rows2 - rows * rows, 0.0)
    variance_columns = np.maximum(mass * columns2 - columns * columns, 0.0)
    covariance = mass * both - rows * columns
    spread = np.sqrt(variance_rows * variance_columns)
    values = (
        mass / pixels.shape[1],
        mass / nonzero,
        nonzero / pixels.shape[1],
        (rows / mass + 0.5) / height,
        (columns / mass + 0.5) / width,
        np.sqrt(variance_rows) / (mass * height),
        np.sqrt(variance_columns) / (mass * width),
        np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > 0),
    )
    low = np.array([s.low for s in STATISTICS])
    high = np.array([s.high for s in STATISTICS])
    steps = np.rint((np.stack(values, axis=1) - low) / (high - low) * STEPS)
    return np.clip(steps, 0, STEPS).astype(np.int64)


def _moments(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Sums of grey level times 1, row, column, row**2, column**2, row * column; float64[6, N].

    All are integers below 2**53, so exact. Plain einsum loops, because BLAS would start threads
    for products this thin and lose ten times what it gains on a busy machine.
    """
    levels = images.astype(np.float64)
    row, column = (np.arange(n, dtype=np.float64) for n in images.shape[1:])
    by_row = np.einsum("nhw->nh", levels)
    by_column = np.einsum("nhw->nw", levels)
    columns_by_row = np.einsum("nhw,w->nh", levels, column)
    return np.stack(
        [
            by_row.sum(axis=1),
            np.einsum("nh,h->n", by_row, row),
            np.einsum("nw,w->n", by_column, column),
            np.einsum("nh,h->n", by_row, row * row),
            np.einsum("nw,w->n", by_column, column * column),
            np.einsum("nh,h->n", columns_by_row, row),
        ]
    )


def histograms(steps: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number of images in each bin of each statistic; int64[N, S] in steps -> int64[S, BINS]."""
    bins = np.minimum(steps // (STEPS // BINS), BINS - 1)
    offsets = np.arange(len(STATISTICS)) * BINS
    counts = np.bincount((bins + offsets).ravel(), minlength=len(STATISTICS) * BINS)
    return counts.reshape(len(STATISTICS), BINS)
