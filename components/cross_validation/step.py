"""cross_validation: Examples -> CrossValidation, what the label gate goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from bnpipe.components.artifacts import CrossValidation, Examples
from bnpipe.components.base import Component, Context, Facts


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The images with their labels, of all splits."""

    examples: Examples


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """An answer for every image."""

    answers: CrossValidation


@dataclass(frozen=True, kw_only=True)
class Params:
    """The `cross_validation` section of the configuration."""

    seed: Annotated[int, Ge(0), Le(2**31 - 8)] = 0
    """Decides the initial weights of the quick networks and the order of their examples."""


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Trains quick networks, and asks each for images that it has not seen.

    Raises:
        TrainingError: an answer is not a finite number.
        DataError: the examples cannot be read.
    """
    from bnpipe.components.cross_validation.work import cross_validate

    return cross_validate(inputs, outputs, params, ctx)


def ahead(params: Params) -> None:
    """Loads the libraries, and compiles the networks for images as many and large as MNIST's."""
    from bnpipe.components.cross_validation.work import compile_ahead

    compile_ahead(params)


COMPONENT = Component("cross_validation", Inputs, Outputs, Params, run, ahead=ahead)
