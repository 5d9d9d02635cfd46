"""label_validator: the gate that holds every label against its image.

Each image is shown to a network that was not trained on it. Where its answer is sure and the label
is another one, the label is a suspect; confident learning makes of it the share of wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.components.artifacts import (
    CrossValidation,
    Examples,
    LabelQuality,
    ServedModel,
    Statistics,
)
from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.label_validator.params import Params


@dataclass(frozen=True)
class Inputs:
    """The images with their labels, and who may answer for those that are new.

    Attributes:
        examples: all splits are looked at.
        answers: by networks that have not seen the image; None where nothing is to be checked.
        champion: the model that is live.
        champion_statistics: what it was trained on; without them it is not asked.
    """

    examples: Examples
    answers: CrossValidation | None = None
    champion: ServedModel | None = None
    champion_statistics: Statistics | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The verdict, and the suspects."""

    quality: LabelQuality


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Looks for wrong labels. That there are too many is a verdict, not an exception.

    Raises:
        DataError: the examples or the champion's statistics cannot be read.
    """
    from bnpipe.components.label_validator.work import validate

    return validate(inputs, outputs, params, ctx)


def ahead(params: Params) -> None:
    """Loads the libraries."""
    import bnpipe.components.label_validator.work  # noqa: F401


COMPONENT = Component("label_validator", Inputs, Outputs, Params, run, gate=True, ahead=ahead)
