"""label_validator: the gate that holds labels against images."""

from bnpipe.components.label_validator.params import Params
from bnpipe.components.label_validator.step import COMPONENT, Inputs, Outputs, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
