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
    server_binary: str | None = None
    """The tensorflow_model_server to try a model on; by default the one on PATH, then Docker."""
    require_real_server: bool = False
    """Whether a model may be published only after a TensorFlow Serving has served it; the stand-in
    of `bnpipe serve` is not enough then."""
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
class Deploy:
    """What `bnpipe deploy render` writes: where servers run, how many, how large."""

    image: str = "tensorflow/serving:2.21.0"
    """The server's image, with a tag that is no `latest`, or with a digest."""
    host: str = "127.0.0.1"
    """The address that compose publishes the ports on."""
    rest_port: Annotated[int, at.Ge(1), at.Le(65535)] = 8501
    """The port of REST, inside and outside."""
    grpc_port: Annotated[int, at.Ge(1), at.Le(65535)] = 8500
    """The port of gRPC, inside and outside."""
    replicas: Annotated[int, at.Ge(1)] = 2
    """How many servers at least."""
    max_replicas: Annotated[int, at.Ge(1)] = 6
    """How many servers at most."""
    cpus: Annotated[int, at.Ge(1)] = 2
    """Processors of a server; TensorFlow's thread pools have as many threads."""
    memory_mb: Annotated[int, at.Ge(256)] = 1024
    """Memory of a server in MiB; two versions must fit while one replaces the other."""
    volume_mb: Annotated[int, at.Ge(1)] = 1024
    """Size of the claim that holds the versions, in MiB."""
    storage_uri: str | None = None
    """Where KServe copies the served folder from; by default the claim of the Kubernetes files."""
    max_error_ratio: Annotated[float, at.Gt(0), at.Lt(1)] = 0.01
    """Share of failed requests that raises an alert."""
    max_p99_ms: Annotated[float, at.Gt(0)] = 50.0
    """99th percentile of the latency that raises an alert, in milliseconds."""


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
