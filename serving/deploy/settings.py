"""The values that the files of the kit share, checked before anything is written."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from bnpipe.serving.deploy import IMAGE, NGINX
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.model_config import MODELS_CONFIG, ModelConfig
from bnpipe.serving.folder.names import check_model_name
from bnpipe.serving.folder.server_files import BATCHING_CONFIG, MONITORING_CONFIG, ServerFiles

MODELS = "/models"
CONFIG = "/config"
POLL_SECONDS = 10
# Kubernetes names end up in labels and host names, with suffixes of ours.
_LONGEST_NAME = 50
_IMAGE = re.compile(
    r"(?P<name>[a-z0-9]+(?:[._:/-]+[a-z0-9]+)*?)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?"
)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A model's servers.

    Attributes:
        models: name, served folder, versions and labels, as models.config says it.
        image: pinned by a tag or a digest.
        host: IP address that compose publishes ports on.
        rest_port: of REST, inside and outside.
        grpc_port: of gRPC, inside and outside.
        replicas: servers at least.
        max_replicas: servers at most.
        cpus: processors of a server.
        memory_mb: MiB of a server.
        volume_mb: MiB of the claim with the versions.
        storage_uri: where KServe copies the served folder from; None for the claim.
        max_error_ratio: share of failed requests that raises an alert.
        max_p99_ms: milliseconds of latency that raise an alert.
        nginx_image: of the nginx before the servers, pinned likewise.
        canary_share: share of the requests without a label for the canary; 0.0001 at least, or 0.
        shadow: whether the canary gets a copy of all of them instead.
        traffic_log: folder that nginx writes its log to.
        gateway: name of the cluster's Gateway.
        files: monitoring.config and batching.config.
        batching: whether servers batch requests.

    Raises:
        ServingError: a value that no server could be started with, or should not.
    """

    models: ModelConfig
    image: str
    host: str
    rest_port: int
    grpc_port: int
    replicas: int
    max_replicas: int
    cpus: int
    memory_mb: int
    volume_mb: int
    storage_uri: str | None
    max_error_ratio: float
    max_p99_ms: float
    nginx_image: str
    canary_share: float
    shadow: bool
    traffic_log: str
    gateway: str
    files: ServerFiles
    batching: bool = False

    def __post_init__(self) -> None:
        check_model_name(self.models.name)
        if len(self.models.name) > _LONGEST_NAME:
            raise ServingError(
                f"model name: expected at most {_LONGEST_NAME} characters for names in a cluster, "
                f"received {len(self.models.name)}",
                hint="set serving.model_name",
            )
        check_image(self.image, "deploy.image", IMAGE)
        check_image(self.nginx_image, "deploy.nginx_image", NGINX)
        paths = {"served folder": self.models.base_path, "deploy.traffic_log": self.traffic_log}
        for name, path in paths.items():
            if re.search("[\x00-\x1f\x7f\ud800-\udfff]", path):
                raise ServingError(
                    f"{name}: expected a path of printable UTF-8 characters, received {path!r}"
                )
        if self.canary_share > 0 and self.percent == 0:
            raise ServingError(
                f"deploy.canary_share: expected 0 or at least 0.0001, received {self.canary_share}"
            )
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise ServingError(
                f"deploy.host: expected an IP address, received {self.host!r}",
                hint="127.0.0.1 for this machine only; servers ask nobody for credentials",
            ) from None
        if self.rest_port == self.grpc_port:
            raise ServingError(f"deploy: REST and gRPC have the same port, {self.rest_port}")
        if self.replicas > self.max_replicas:
            raise ServingError(
                f"deploy.replicas: expected at most deploy.max_replicas ({self.max_replicas}), "
                f"received {self.replicas}"
            )

    @property
    def resource_name(self) -> str:
        """The model's name as Kubernetes takes it: without underscores."""
        return self.models.name.replace("_", "-").rstrip("-")

    @property
    def percent(self) -> float:
        """The canary's share as nginx takes it: in hundredths of a percent."""
        return round(100 * self.canary_share, 2)

    @property
    def claim(self) -> str:
        """The claim with the versions."""
        return f"{self.resource_name}-models"

    @property
    def image_tag(self) -> str:
        """The image's tag.

        Raises:
            ServingError: it has none.
        """
        match = _IMAGE.fullmatch(self.image)
        if match is None or match["tag"] is None:
            raise ServingError(
                f"deploy.image: KServe takes a version, expected NAME:TAG, received {self.image!r}",
                hint="name the other kinds only: --kind kubernetes",
            )
        return match["tag"]

    def flags(self, config_folder: str) -> list[str]:
        """Flags of a server whose configuration files are in a folder."""
        file = f"{config_folder}/{BATCHING_CONFIG}"
        batching = ("--enable_batching=true", f"--batching_parameters_file={file}")
        return [
            f"--port={self.grpc_port}",
            f"--rest_api_port={self.rest_port}",
            f"--model_config_file={config_folder}/{MODELS_CONFIG}",
            f"--model_config_file_poll_wait_seconds={POLL_SECONDS}",
            "--file_system_poll_wait_seconds=1",
            # Otherwise a server that starts with labels exits.
            "--allow_version_labels_for_unavailable_models=true",
            "--max_num_load_retries=3",
            "--load_retry_interval_micros=5000000",
            f"--monitoring_config_file={config_folder}/{MONITORING_CONFIG}",
            *(batching if self.batching else ()),
            *self.common_flags(),
        ]

    def common_flags(self) -> list[str]:
        """Flags that every server has, KServe's too."""
        return [
            # With none, a load that is tried again stops everything else.
            "--num_load_threads=2",
            "--num_unload_threads=1",
            "--enable_profiler=false",
            "--rest_api_timeout_in_ms=5000",
            # TensorFlow would count the machine's processors, not the container's.
            f"--tensorflow_intra_op_parallelism={self.cpus}",
            f"--tensorflow_inter_op_parallelism={self.cpus}",
        ]


def check_image(image: str, key: str, example: str) -> None:
    """Refuse an image that is not pinned.

    Raises:
        ServingError: it has no tag or digest, or the tag `latest`; the error names the key.
    """
    match = _IMAGE.fullmatch(image)
    if match is None or (match["tag"] is None and match["digest"] is None):
        expected = "NAME:TAG or NAME@sha256:DIGEST"
    elif match["tag"] == "latest":
        expected = "a tag that always means the same image"
    else:
        return
    raise ServingError(
        f"{key}: expected {expected}, received {image!r}",
        hint=f"e.g. {example}",
    )
