"""trainer: the batch-normalised network; with `normalization="none"` its baseline."""

from bnpipe.components.trainer.step import COMPONENT, Inputs, Outputs, Params, TrainingError, run

__all__ = ["COMPONENT", "Inputs", "Outputs", "Params", "TrainingError", "run"]
