"""evaluator: TFMA and a statistical gate. `step` says what it is; the rest is imported by `run`."""

from bnpipe.components.evaluator.params import Params
from bnpipe.components.evaluator.step import COMPONENT, Inputs, Outputs, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
