"""The sections of the configuration that are not a component's `Params`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import annotated_types as at


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where models are published and what is published."""

    base_path: str | None = None
    """The served folder; by default `<home>/served/<model name>`."""
    model_name: str | None = None
    """The name that clients ask for; by default the data set's."""
    fold_batch_norm: bool = True
    """Fold batch normalisation into the preceding Dense layer of the exported graph."""
    keep_versions: Annotated[int, at.Ge(1)] = 5
    """How many versions to keep, besides the live and the labelled ones."""


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How Beam runs."""

    options: tuple[str, ...] = ()
    """Beam flags, as after `--` on the command line, e.g. ["--runner=FlinkRunner"]."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """How steps are tried again after faults (never after verdicts)."""

    attempts: Annotated[int, at.Ge(1)] = 3
    """How often a step may be tried."""
    backoff_seconds: Annotated[float, at.Ge(0)] = 2.0
    """Upper bound of the first wait, in seconds; it doubles with every attempt."""
    budget_seconds: Annotated[float, at.Ge(0)] = 60.0
    """Upper bound of all waits of a run, in seconds."""
