"""study: many small trainings, and what is true of the article's claims about BN."""

from bnpipe.components.study.params import Params
from bnpipe.components.study.step import COMPONENT, Inputs, Outputs, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "run"]
