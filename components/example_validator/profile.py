"""The data as the checks see it, and their observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bnpipe.components.base import Grade
from bnpipe.components.example_validator.params import Params
from bnpipe.data.dataset_info import DatasetInfo
from bnpipe.data.statistics.summary import BASE, SplitSummary


class Share(NamedTuple):
    """One source's share of one split; the source is the data set itself, or a span.

    Attributes:
        split: the split.
        name: `train`, or where spans were added `train/base`, `train/span-2026-11-20`.
        summary: its statistics.
    """

    split: str
    name: str
    summary: SplitSummary


class Images(NamedTuple):
    """The images of several parts, one after another.

    Attributes:
        hashes: their content hashes, uint64[N].
        labels: their labels, int64[N].
        part: the part that each belongs to, a row of `Profile.parts`, int64[N].
    """

    hashes: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Profile:
    """The data as the checks see it: its statistics, and what they are held against.

    Attributes:
        info: the data set.
        schema: what its examples must look like, a tensorflow_metadata Schema.
        splits: statistics by split.
        parts: the splits again, by source; every record is in one of them.
        spans: number of records of every span by name, from old to new.
        champion: statistics of the champion's train split; None when there is no champion.
        params: the bounds.
    """

    info: DatasetInfo
    schema: Any
    splits: Mapping[str, SplitSummary]
    parts: Sequence[Share]
    spans: Mapping[str, int]
    champion: SplitSummary | None
    params: Params

    @property
    def level_of_part(self) -> float:
        """The error level of a check that is made of every part: shared by them (Bonferroni)."""
        return self.params.level / max(len(self.parts), 1)

    def base(self, split: str) -> Share | None:
        """The data set's own share of a split, if it has one."""
        return next((p for p in self.parts if p.name in (split, f"{split}/{BASE}")), None)

    def images(self, *splits: str) -> Images:
        """The images of some splits, in the order of `parts`."""
        rows = [row for row, part in enumerate(self.parts) if part.split in splits]
        of = [self.parts[row].summary for row in rows]
        return Images(
            np.concatenate([np.zeros(0, np.uint64), *(s.hashes for s in of)]),
            np.concatenate([np.zeros(0, np.int64), *(s.labels for s in of)]),
            np.repeat(np.array(rows, np.int64), [len(s.hashes) for s in of]),
        )

    def label(self, label: int) -> str:
        """A class's name in a sentence: `label 7`, or `label 7 (Sneaker)` if its name says more."""
        name = self.info.label_names[label]
        return f"label {label}" if name == str(label) else f"label {label} ({name})"


@dataclass(frozen=True)
class Observation:
    """An observation of one check in one split.

    Attributes:
        split: the split.
        outcome: `ok`, `warn` or `block`.
        value: what was measured.
        bound: above (or below) which it blocks, as the sentence says.
        sentence: the observation in words.
        code: the anomaly's type in tensorflow_metadata.
        feature: the feature that it is about; empty for the data set as a whole.
        against: what it is a distance from, `champion` or `train`; empty if it is none.
        hashes: content hashes of a few images that it is about, if it is about single images.
    """

    split: str
    outcome: Grade
    value: float
    bound: float
    sentence: str
    code: str = "CUSTOM_VALIDATION"
    feature: str = "image"
    against: str = ""
    hashes: tuple[int, ...] = ()


def graded(value: float, warn_above: float, block_above: float) -> Grade:
    """The grade of a value that should be small."""
    if value > block_above:
        return "block"
    return "warn" if value > warn_above else "ok"
