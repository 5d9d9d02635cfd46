"""The label validator's section of the config: the level of its checks, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

from bnpipe.components.base import Level

Share = Annotated[float, Ge(0.0), Le(1.0)]


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The level of each check of the labels: block, only warn, or be off.

    With the first two off nothing is asked, and there are no suspects.
    """

    own_labels: Level = "block"
    """The data set's own train records have few wrong labels."""
    part_labels: Level = "block"
    """Every other part (a span, a split) has hardly more than those."""
    answer_drift: Level = "warn"
    """The champion answers for the images of a new span as it does for the data set's validation
    records. It only warns: to learn from what is new is what a span is for."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `label_validator` section of the configuration."""

    checks: Checks = Checks()
    """The level of every check: block, warn or off."""
    level: Annotated[float, Gt(0.0), Lt(0.5)] = 0.01
    """Probability that parts whose labels are as good as tolerated trip a check, all together."""
    max_own_share: Share = 0.3
    """Tolerated share of wrong labels in the data set's own train records. Large, since nothing
    tells labels that are wrong from images that are ambiguous; a fifth of it is warned of."""
    max_wrong_share: Share = 0.02
    """Tolerated share of wrong labels in another part, beyond the share in those; a fifth of it is
    warned of."""
    confidence: Annotated[float, Gt(0.0), Lt(1.0)] = 0.95
    """Confidence of the intervals that are reported."""
    pictures: Annotated[int, Ge(0)] = 24
    """Pictures kept of the first suspects of every split."""
