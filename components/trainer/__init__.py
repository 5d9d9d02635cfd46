"""trainer: the batch-normalised network; with `normalization="none"` its baseline."""

from bnpipe.components.network.params import Params, TrainingError
from bnpipe.components.trainer.step import COMPONENT, Inputs, Outputs, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "TrainingError", "run"]
