"""evaluator: both models through TFMA and a statistical gate that decides what may be served.

Every model is asked once, by the SavedModel signature that is served. From these answers come the
standard TFMA output, our own metrics with intervals, the golden requests for the infra validator,
and the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.components.artifacts import (
    Blessing,
    Evaluation,
    LabelQuality,
    Model,
    ServedModel,
    TransformedExamples,
)
from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.evaluator.params import Params


@dataclass(frozen=True)
class Inputs:
    """The models to compare, and the data to ask them for."""

    examples: TransformedExamples
    candidate: Model
    baseline: Model
    champion: ServedModel | None = None
    labels: LabelQuality | None = None


@dataclass(frozen=True)
class Outputs:
    """The measurements, and the verdict."""

    evaluation: Evaluation
    blessing: Blessing


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Evaluates the candidate against the baseline and the champion, and decides.

    Raises:
        DataError: the split holds no images, or a slicing names a column that cannot be sliced by.
    """
    # TensorFlow, Beam and TFMA take seconds to import: once, here, and never for a cached step.
    from bnpipe.components.evaluator.work import evaluate

    return evaluate(inputs, outputs, params, ctx)


def ahead(params: Params) -> None:
    """Loads the libraries."""
    import bnpipe.components.evaluator.work  # noqa: F401


COMPONENT = Component(
    "evaluator", Inputs, Outputs, Params, run, gate=True, on_beam=True, ahead=ahead
)
