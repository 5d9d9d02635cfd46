"""cross_validation: answers for every image by networks that were not trained on it."""

from bnpipe.components.cross_validation.step import COMPONENT, Inputs, Outputs, Params, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
