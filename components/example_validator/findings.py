"""What the checks see, and what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.example_validator.params import Params
from data.dataset_info import DatasetInfo
from data.statistics import SplitSummary

Level = Literal["ok", "warn", "block"]
LEVELS: tuple[Level, ...] = ("ok", "warn", "block")
"""From harmless to harmful."""


@dataclass(frozen=True)
class Evidence:
    """What is checked.

    Attributes:
        info: the data set.
        schema: what its examples must look like, a tensorflow_metadata Schema.
        splits: statistics by split.
        champion: statistics of the champion's train split; None when there is no champion.
        params: the bounds.
    """

    info: DatasetInfo
    schema: Any
    splits: Mapping[str, SplitSummary]
    champion: SplitSummary | None
    params: Params

    def label(self, label: int) -> str:
        """How a class is called: `label 7`, or `label 7 (Sneaker)` if its name says more."""
        name = self.info.label_names[label]
        return f"label {label}" if name == str(label) else f"label {label} ({name})"


@dataclass(frozen=True)
class Finding:
    """What one check found in one split.

    Attributes:
        split: the split.
        level: `ok`, `warn` or `block`.
        value: what was measured.
        bound: above (or below) which it blocks, as the sentence says.
        sentence: the finding in words.
        code: the anomaly's type in tensorflow_metadata.
        feature: the feature that it is about; empty for the data set as a whole.
        hashes: content hashes of a few images that it is about, if it is about single images.
    """

    split: str
    level: Level
    value: float
    bound: float
    sentence: str
    code: str = "CUSTOM_VALIDATION"
    feature: str = "image"
    hashes: tuple[int, ...] = ()


def graded(value: float, warn_above: float, block_above: float) -> Level:
    """The level of a value that should be small."""
    if value > block_above:
        return "block"
    return "warn" if value > warn_above else "ok"
