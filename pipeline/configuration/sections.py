"""The sections of the configuration that are not a component's `Params`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

import annotated_types as at

from bnpipe.components.base import LocalPath, PathOrUrl
from bnpipe.pipeline.configuration.duration import parse_duration
from bnpipe.pipeline.configuration.timetable import make_timetable
from bnpipe.serving.deploy import FLINK, IMAGE, NGINX

TriggerName = Literal["clock", "new_span", "drift", "accuracy", "estimate", "staleness"]
"""The reasons that may start a retraining, besides a person."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """The place that models are published to, and the form."""

    base_path: PathOrUrl | None = None
    """The served folder, or an object store as gs://BUCKET/PATH; by default
    `<home>/served/<model name>`."""
    model_name: str | None = None
    """The name that clients ask for; by default the data set's."""
    fold_batch_norm: bool = True
    """Fold batch normalisation into the preceding Dense layer of the exported graph."""
    calibrated: bool = False
    """Serve probabilities that are as large as the model is right (temperature scaling)."""
    keep_versions: Annotated[int, at.Ge(1)] = 5
    """Number of versions to keep, besides the live and the labelled ones."""
    server_binary: LocalPath | None = None
    """The tensorflow_model_server to try a model on; by default the one on PATH, then Docker."""
    require_real_server: bool = False
    """Publish a model only after a TensorFlow Serving has served it; the stand-in
    of `bnpipe serve` is not enough then."""
    server_url: str | tuple[str, ...] = ()
    """The running server, http://HOST:PORT or grpc://HOST:PORT; a list with one for each replica.
    Labels move once it has loaded a version; without it, a running server must be restarted."""
    rollout: Literal["direct", "canary"] = "direct"
    """`direct`: a new version becomes live at once; `canary`: it is labelled so and tried first."""
    server_wait_seconds: Annotated[float, at.Ge(0)] = 60.0
    """Longest wait until the server has loaded a version, in seconds."""
    signing_key: LocalPath | None = None
    """Private key (PEM; P-256, P-384, P-521) that versions are signed with: versions keygen."""
    verify_key: LocalPath | tuple[LocalPath, ...] = ()
    """Public key (PEM), or a list: the new one and those of older versions; by default the
    one that belongs to the signing key."""
    prometheus_path: str = "/monitoring/prometheus/metrics"
    """Path under which the server shows its metrics, for monitoring.config."""
    batching: bool = False
    """Have `bnpipe serve` batch requests, as batching.config says."""
    max_batch_size: Annotated[int, at.Ge(1)] = 64
    """Largest batch, in rows; larger requests are refused while batching is on."""
    allowed_batch_sizes: tuple[Annotated[int, at.Ge(1)], ...] = (8, 32, 64)
    """Batches are padded to one of these; ascending, the last one is max_batch_size."""
    batch_timeout_micros: Annotated[int, at.Ge(0)] = 1000
    """Longest wait of a batch for more rows, in microseconds."""
    max_enqueued_batches: Annotated[int, at.Ge(1)] = 100
    """Number of batches that may wait before requests are refused."""
    num_batch_threads: Annotated[int, at.Ge(1)] = 2
    """Number of batches that are computed at a time."""


@dataclass(frozen=True, kw_only=True)
class DeployBeam:
    """The content of what `bnpipe deploy render --kind beam` writes: image and Flink cluster."""

    image: str | None = None
    """The image of beam/Dockerfile, where the cluster finds it; by default bnpipe:<version>."""
    flink_image: str = FLINK
    """Flink's image, with a tag that begins with its version."""
    job_server_image: str | None = None
    """The image of Beam's job server; by default Beam's own, for that Flink."""
    task_managers: Annotated[int, at.Ge(1)] = 2
    """Number of TaskManagers, each with two slots and a pool of workers."""
    home_mb: Annotated[int, at.Ge(1024)] = 20480
    """Size of the claim that is the home of pipeline, workers and schedule, in MiB."""


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """The content of what `bnpipe deploy render` writes: where servers run, how many, how large."""

    image: str = IMAGE
    """The server's image, with a tag that is no `latest`, or with a digest."""
    host: str = "127.0.0.1"
    """The address that compose publishes the ports on."""
    rest_port: Annotated[int, at.Ge(1), at.Le(65535)] = 8501
    """The port of REST, inside and outside."""
    grpc_port: Annotated[int, at.Ge(1), at.Le(65535)] = 8500
    """The port of gRPC, inside and outside."""
    replicas: Annotated[int, at.Ge(1)] = 2
    """Number of servers at least."""
    max_replicas: Annotated[int, at.Ge(1)] = 6
    """Number of servers at most."""
    cpus: Annotated[int, at.Ge(1)] = 2
    """Processors of a server; TensorFlow's thread pools have as many threads."""
    memory_mb: Annotated[int, at.Ge(256)] = 1024
    """Memory of a server in MiB; two versions must fit while one replaces the other."""
    volume_mb: Annotated[int, at.Ge(1)] = 1024
    """Size of the claim that holds the versions, in MiB."""
    storage_uri: str | None = None
    """Source of the served folder for KServe; by default the claim of the Kubernetes files."""
    max_error_ratio: Annotated[float, at.Gt(0), at.Lt(1)] = 0.01
    """Share of failed requests that raises an alert."""
    max_p99_ms: Annotated[float, at.Gt(0)] = 50.0
    """99th percentile of the latency that raises an alert, in milliseconds."""
    nginx_image: str = NGINX
    """The image of the nginx before the server, pinned likewise; bash in it asks for its health."""
    canary_share: Annotated[float, at.Ge(0), at.Le(1)] = 0.1
    """Share of the requests without a label that goes to the canary while there is one. With 1
    there is nothing to compare it with."""
    shadow: bool = False
    """Send the canary a copy of every request without a label instead; clients get the answers of
    the live version only, at once, but their next on that connection waits for the copy, 5 s at
    most."""
    traffic_log: LocalPath | None = None
    """Folder that nginx logs requests to, for bnpipe canary status; by default `<home>/traffic`."""
    gateway: str = "gateway"
    """The Gateway that the HTTPRoute belongs to."""
    beam: DeployBeam = DeployBeam()
    """Worker image and Flink cluster of Beam's steps."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Steps beside one another, and further attempts after faults (never after verdicts)."""

    jobs: Annotated[int, at.Ge(1), at.Le(64)] | None = None
    """Steps that may run at the same time; by default the number of cores, at most 4."""
    attempts: Annotated[int, at.Ge(1)] = 3
    """Number of attempts at a step, at most."""
    backoff_seconds: Annotated[float, at.Ge(0)] = 2.0
    """Upper bound of the first wait, in seconds; it doubles with every attempt."""
    budget_seconds: Annotated[float, at.Ge(0)] = 60.0
    """Upper bound of all waits of a run, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The times at which `bnpipe retrain --due` retrains, and its reasons to."""

    cron: str | None = None
    """Slots as a cron expression of five fields, e.g. "0 3 * * 1-5"; Sunday is 0 and 7."""
    every: str | None = None
    """Slots at an interval instead, e.g. 90m, 6h, 1d, counted from 1970-01-01T00:00Z."""
    timezone: str = "UTC"
    """IANA time zone of the cron expression, e.g. Europe/Berlin."""
    catch_up: Literal["none", "latest", "all"] = "latest"
    """The slots that are made up for when nobody ticked for them in time."""
    catch_up_limit: Annotated[int, at.Ge(1), at.Le(1000)] = 10
    """With `all`: how many slots at most, the newest ones."""
    late_seconds: Annotated[float, at.Ge(0)] = 900.0
    """With `none`: how late a slot may start, in seconds."""
    triggers: tuple[TriggerName, ...] = ("clock",)
    """Reasons to retrain that are looked for at every slot; `clock` is one at every slot."""
    requests: LocalPath | None = None
    """Folder of logged requests (bnpipe predict --log-to) that `drift` and `estimate` look at."""
    accuracy_drop: Annotated[float, at.Ge(0), at.Lt(1)] = 0.02
    """How much the champion may lose: with `accuracy` on the newest span, with `estimate` by what
    it is sure of on logged requests."""
    stale_after: str | None = None
    """Age from which the served model is stale, e.g. 7d; it is a trigger and an alarm."""
    attempts: Annotated[int, at.Ge(1)] = 3
    """Number of attempts at a slot, at most: after faults, never after verdicts."""
    backoff_seconds: Annotated[float, at.Ge(0)] = 300.0
    """Upper bound of the first wait between attempts, in seconds; it doubles with every one."""
    retry_for: str = "6h"
    """No further attempt begins later than this after the first one."""
    time_limit: str | None = None
    """Time after which a run is ended, e.g. 2h."""
    per_step: bool = False
    """Have `bnpipe schedule render --kind airflow` make every step a task, at every slot. There is
    no tick then: nothing triggers, soaks, tells or removes old runs."""
    tick_seconds: Annotated[float, at.Gt(0)] = 300.0
    """Interval of the ticks of `bnpipe schedule run`, in seconds."""
    grace_seconds: Annotated[float, at.Ge(0)] = 30.0
    """Time for a run that is stopped to end by itself, in seconds."""
    keep_outcomes: Annotated[int, at.Ge(10)] = 500
    """Number of outcomes to keep."""
    keep_runs: Annotated[int, at.Ge(1)] | None = 20
    """Number of the newest runs to keep, with what they made, besides those behind versions that
    are served: a tick removes the rest after its run; null keeps all."""

    def __post_init__(self) -> None:
        """Check what no type tells.

        Raises:
            ValueError: a duration, the cron expression or the time zone is none.
        """
        spans = {}
        for name in ("every", "stale_after", "retry_for", "time_limit"):
            text = getattr(self, name)
            try:
                spans[name] = None if text is None else parse_duration(text)
            except ValueError as error:
                raise ValueError(f"schedule.{name}: {error}") from None
        make_timetable(self.cron, spans["every"], self.timezone)
        if "staleness" in self.triggers and self.stale_after is None:
            raise ValueError("schedule.stale_after: the trigger staleness needs it, e.g. 7d")
        if self.per_step and self.triggers != ("clock",):
            raise ValueError(
                "schedule.triggers: expected [clock] with schedule.per_step, which asks no other, "
                f"received [{', '.join(self.triggers)}]"
            )
        if "estimate" in self.triggers and self.requests is None:
            raise ValueError("schedule.requests: the trigger estimate needs it, e.g. requests")


@dataclass(frozen=True, kw_only=True)
class Canary:
    """The trial of a new version by scheduled retraining, with `serving.rollout: canary`."""

    soak: str = "10m"
    """Time for which the running servers are asked for both versions, e.g. 10m."""
    rate: Annotated[float, at.Gt(0), at.Le(1000)] = 5.0
    """Images a second for each server, each sent to both versions."""
    margin: Annotated[float, at.Gt(0), at.Lt(1)] = 0.01
    """Largest loss of accuracy, as a share of the images: that it is no larger must be shown; a
    version that is shown to be worse, by more than this as measured, is withdrawn at once."""
    error_margin: Annotated[float, at.Ge(0), at.Lt(1)] = 0.002
    """Largest excess of failed requests, as a share of all."""
    latency_margin: Annotated[float, at.Ge(0)] = 0.2
    """Largest excess of latency, as a share of the live version's, or of 5 ms if that is quicker:
    the ratio of shorter times is the machine's noise, so 6 ms are as good as any."""
    inconclusive: Literal["withdraw", "keep", "promote"] = "keep"
    """What becomes of a version of which nothing is shown when the time is up; `keep` leaves it
    canary, and the schedule's next ticks go on where its soak stopped, until all images were asked;
    then it is left to people."""
    bake: str | None = None
    """Time for which a version is watched beside the one that was live before, and rolled back when
    it fails, e.g. 30m; null for no such time. So are versions that were promoted: by their soak, or
    by hand with running servers; not those that a push makes live at once."""

    def __post_init__(self) -> None:
        """Check what no type tells.

        Raises:
            ValueError: a duration is none.
        """
        for name, duration in (("soak", self.soak), ("bake", self.bake)):
            try:
                parse_duration(duration or "1s")
            except ValueError as error:
                raise ValueError(f"canary.{name}: {error}") from None


EventName = Literal["success", "not_blessed", "failure", "stale"]


@dataclass(frozen=True, kw_only=True)
class Notify:
    """The receivers of news of scheduled retraining."""

    on: tuple[EventName, ...] = ("not_blessed", "failure", "stale")
    """Events that are told."""
    webhook_file: LocalPath | None = None
    """File with the URL that gets the event as JSON by POST, for it may be a secret; or
    BNPIPE_WEBHOOK_URL."""
    secret_file: LocalPath | None = None
    """File with the key that the webhook's body is signed with (X-Bnpipe-Signature); or
    BNPIPE_WEBHOOK_SECRET."""
    command: tuple[str, ...] = ()
    """A command that gets the event as JSON on its standard input, e.g. ["./tell.sh"]."""
    timeout_seconds: Annotated[float, at.Gt(0)] = 10.0
    """Time that the webhook or the command may take, in seconds."""
    prometheus_file: LocalPath | None = None
    """A *.prom file for the node exporter's textfile collector, written at every tick."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Other places that show runs."""

    mlflow: str | None = None
    """MLflow's tracking server, e.g. http://127.0.0.1:5000 (pip install bnpipe[mlflow])."""
    experiment: str = "bnpipe"
    """The experiment that runs are listed under."""

    def __post_init__(self) -> None:
        """Check what no type tells.

        Raises:
            ValueError: the address has a password, which every record of the configuration would.
        """
        try:
            place = urlsplit(self.mlflow or "").netloc
        except ValueError as error:
            raise ValueError(f"tracking.mlflow: {error}, received {self.mlflow!r}") from None
        if "@" in place:
            raise ValueError(
                "tracking.mlflow: expected an address without user and password; they belong in "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
