"""The network and how it is trained, as values; the `trainer` section of the config."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

from bnpipe.components.base import configured_as, machine_local
from bnpipe.data.errors import BnpipeError

Dtype = Literal["float32", "float64", "mixed_bfloat16"]


class TrainingError(BnpipeError):
    """The network cannot be trained as it was asked."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """The network and how it is trained. The defaults are the source article's."""

    normalization: Literal["batch", "custom_batch", "layer", "none"] = "batch"
    """The kind that follows every hidden Dense layer; `batch` is Keras', `custom_batch` is ours."""
    normalization_position: Literal["before_activation", "after_activation"] = "before_activation"
    """The side of the activation on which it stands."""
    hidden_units: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (64, 64)
    """Units of the hidden layers."""
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of every hidden layer's outputs that is dropped in training."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.99
    """Weight of the past in the moving statistics of batch normalisation."""
    epsilon: Annotated[float, Gt(0)] = 1e-3
    """Added to the variance by which a normalisation divides."""
    precise_statistics: bool = False
    """Replaces the moving statistics by those of the whole train split at the end."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """The optimizer, with Keras' defaults but for the learning rate."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """The learning rate, at the start if it has a schedule."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The course of the learning rate; `cosine` ends at 0 with the last epoch."""
    epochs: Annotated[int, Ge(1)] = 10
    """Passes over the train split."""
    batch_size: Annotated[int, Ge(1)] = 32
    """Examples per step; the last batch of an epoch holds what is left."""
    early_stopping_patience: Annotated[int, Ge(0)] = 0
    """Epochs without a better validation loss before stopping with the best weights; 0: never."""
    warm_start: Annotated[int, Ge(1)] | None = machine_local(None)
    """The served version whose weights the candidate starts from; the baseline always starts cold.

    It is a number because "the champion" is another model after every push, so that an unchanged
    rerun would train again. Not the number but the digest of that version's model is in the key.
    """
    seed: Annotated[int, Ge(0), Le(2**31 - 1)] = 0
    """Decides the initial weights, the order of the examples and the dropout."""
    device: str = "cpu"
    """The device to train on: `cpu`, `gpu`, `gpu:1`."""
    dtype: Dtype = "float32"
    """Keras' name of the precision; what is exported is float32 in any case."""
    fold_batch_norm: bool = configured_as("serving.fold_batch_norm", True)
    """Folds the batch normalisation of the exported model into its Dense layers."""
    calibrated: bool = configured_as("serving.calibrated", False)
    """Divides the exported model's logits by the temperature that validation was fitted with."""
    memory_budget_mb: Annotated[int, Ge(1)] = machine_local(192)
    """Features of more megabytes stay on disk (MNIST's are 180); the result is the same."""
    checkpoint_seconds: Annotated[float, Ge(0)] = machine_local(30.0)
    """Time between checkpoints; a killed run goes on from the last one."""

    def __post_init__(self) -> None:
        """Check what no type tells.

        Raises:
            ValueError: the device is none on any machine.
        """
        if not re.fullmatch(r"(cpu|gpu|tpu)(:\d+)?", self.device, re.IGNORECASE):
            raise ValueError(
                f"trainer.device: expected cpu, gpu or gpu:1, received {self.device!r}"
            )
