"""Checkpoints: everything that training has reached, in one file that is whole or not there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from bnpipe.data.durable import replacing
from bnpipe.data.json_text import json_text

Arrays = list[npt.NDArray[np.generic]]

FILE_NAME = "checkpoint.npz"


@dataclass
class Position:
    """The point that training has reached.

    Attributes:
        epoch: epochs that are complete.
        step: full batches of the epoch under way that are complete.
        loss_sum: sum of the losses of the epoch's examples so far.
        correct: how many of the epoch's examples so far were predicted right before their step.
        history: one row of metrics per complete epoch.
        best_epoch: the epoch (from 1) with the lowest validation loss; 0 before the first.
        stopped: whether early stopping has ended the training.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    history: list[dict[str, float | None]] = field(default_factory=list)
    best_epoch: int = 0
    stopped: bool = False


def save(folder: Path, position: Position, state: Arrays, best: Arrays) -> None:
    """Writes a checkpoint in the place of the last one.

    Args:
        folder: where.
        position: how far training has come.
        state: the values of all variables of the model and its optimizer.
        best: the model's values after the best epoch, or nothing.
    """
    arrays: dict[str, Any] = {f"state_{i:03}": value for i, value in enumerate(state)}
    arrays["position"] = np.array(json_text(asdict(position)))
    arrays |= {f"best_{i:03}": value for i, value in enumerate(best)}
    with replacing(folder / FILE_NAME) as descriptor, open(descriptor, "wb", closefd=False) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(folder: Path) -> tuple[Position, Arrays, Arrays] | None:
    """The last checkpoint as `save` took it, or None if there is none that can be read."""
    try:
        with (folder / FILE_NAME).open("rb") as file, np.load(file) as stored:
            position = Position(**json.loads(str(stored["position"])))
            state = [stored[name] for name in sorted(stored) if name.startswith("state_")]
            best = [stored[name] for name in sorted(stored) if name.startswith("best_")]
            return position, state, best
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile):
        return None
