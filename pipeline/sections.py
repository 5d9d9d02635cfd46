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
    server_url: str | tuple[str, ...] = ()
    """The running server, http://HOST:PORT or grpc://HOST:PORT; a list with one for each replica.
    Labels move once it has loaded a version; without it, a running server must be restarted."""
    server_wait_seconds: Annotated[float, at.Ge(0)] = 60.0
    """How long to wait until the server has loaded a version, in seconds."""
    signing_key: str | None = None
    """Ed25519 private key (PEM) that versions are signed with: bnpipe versions keygen."""
    verify_key: str | None = None
    """Ed25519 public key (PEM); by default the one that belongs to the signing key."""
    prometheus_path: str = "/monitoring/prometheus/metrics"
    """Where the server shows its metrics, for monitoring.config."""
    batching: bool = False
    """Whether `bnpipe serve` has requests batched, as batching.config says."""
    max_batch_size: Annotated[int, at.Ge(1)] = 64
    """Largest batch, in rows; larger requests are refused while batching is on."""
    allowed_batch_sizes: tuple[Annotated[int, at.Ge(1)], ...] = (8, 32, 64)
    """Batches are padded to one of these; ascending, the last one is max_batch_size."""
    batch_timeout_micros: Annotated[int, at.Ge(0)] = 1000
    """How long a batch waits for more rows, in microseconds."""
    max_enqueued_batches: Annotated[int, at.Ge(1)] = 100
    """How many batches may wait before requests are refused."""
    num_batch_threads: Annotated[int, at.Ge(1)] = 2
    """How many batches are computed at a time."""


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
