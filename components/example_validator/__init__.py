"""example_validator: the data gate."""

from bnpipe.components.example_validator.params import Params
from bnpipe.components.example_validator.step import COMPONENT, Inputs, Outputs, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
