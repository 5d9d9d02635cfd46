"""trainer: TransformedExamples -> Model. The baseline is this component with other parameters."""

from __future__ import annotations

from dataclasses import dataclass

from bnpipe.components.artifacts import Model, TransformedExamples
from bnpipe.components.base import Component, Context, Facts
from bnpipe.components.network.params import Params


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The examples, and the model to start from.

    Attributes:
        examples: those to train, validate and verify on.
        start: the model whose weights training begins with; None for random ones.
    """

    examples: TransformedExamples
    start: Model | None = None


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The trained model."""

    model: Model


def run(inputs: Inputs, outputs: Outputs, params: Params, ctx: Context) -> Facts:
    """Trains, exports and verifies one network.

    Raises:
        TrainingError: there is nothing to train on, the device does not exist, the model to start
            from is another network, or the loss is no longer a finite number.
        ServingError: the exported model does not answer like the trained one.
    """
    from bnpipe.components.trainer.work import train_and_export

    return train_and_export(inputs, outputs.model, params, ctx)


def ahead(params: Params) -> None:
    """Loads the libraries, and compiles the network's training for examples of MNIST's shape."""
    from bnpipe.components.trainer.work import compile_ahead

    compile_ahead(params)


COMPONENT = Component("trainer", Inputs, Outputs, Params, run, ahead=ahead)
