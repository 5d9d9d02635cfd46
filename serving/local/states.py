"""The states of a version, and the flags that move it from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from bnpipe.serving.local.status import StatusError


class Loaded(Protocol):
    """A loaded version, as a loader makes it of a folder."""

    def close(self) -> None:
        """Give back what it holds."""


T = TypeVar("T", bound=Loaded)


class State(IntEnum):
    """`ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass
class Version(Generic[T]):
    """One version of a model, as long as the process lives."""

    number: int
    path: Path
    state: State = State.START
    error: StatusError | None = None
    servable: T | None = None
    in_flight: int = 0
    wanted: bool = True


@dataclass(frozen=True)
class Settings:
    """Flags of the server; the names are TF Serving's.

    Attributes:
        poll_wait_seconds: how often folders are looked at.
        config_poll_wait_seconds: how often the configuration file is read; 0 means once.
        max_num_load_retries: how often a failed load is tried again.
        load_retry_seconds: how long to wait before that.
        allow_labels_for_unavailable: whether a new label may name a version that is not loaded.
    """

    poll_wait_seconds: float = 1.0
    config_poll_wait_seconds: float = 0.0
    max_num_load_retries: int = 5
    load_retry_seconds: float = 60.0
    allow_labels_for_unavailable: bool = False
