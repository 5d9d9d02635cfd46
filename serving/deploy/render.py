"""Templates filled with a deployment's values.

compose.yaml                 one server behind nginx, on this machine's loopback
nginx.conf                   of that nginx: what goes to the canary; `traffic` reads its log
gateway/httproute.yaml       the same for a cluster with a Gateway, by hand
kubernetes/*.yaml            `kubectl apply -k kubernetes`; volume.yaml and writer.yaml by hand
kserve/*.yaml                instead of kubernetes/, on a cluster with KServe
monitoring/*                 Prometheus' rules and scrape configuration, Grafana's dashboard
beam/*                       worker image, Flink cluster and a run on it; no model is needed
runbook.md                   start, canary, rollback, what to do when an alert comes
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnpipe.data.durable import write_files
from bnpipe.data.json_text import json_text
from bnpipe.serving.deploy.cluster import FILES
from bnpipe.serving.deploy.queries import Queries
from bnpipe.serving.deploy.settings import CONFIG, MODELS, POLL_SECONDS, Deployment
from bnpipe.serving.errors import ServingError
from bnpipe.serving.folder.model_config import ModelConfig

_OBJECTS = "kustomization configmap deployment service hpa pdb networkpolicy volume writer"
KINDS = {
    "compose": ("compose.yaml", "nginx.conf"),
    "kubernetes": tuple(f"kubernetes/{name}.yaml" for name in _OBJECTS.split()),
    "gateway": ("gateway/httproute.yaml",),
    "kserve": ("kserve/inferenceservice.yaml",),
    "monitoring": tuple(
        f"monitoring/{name}"
        for name in ("rules.yaml", "prometheus.yaml", "scrape_kubernetes.yaml", "dashboard.json")
    ),
    "runbook": ("runbook.md",),
    "beam": FILES,
}
# The dashboard, which has no comments, names us by its tags.
_OURS = re.compile(r'Written by `bnpipe deploy render`|"tags": \["bnpipe", "tensorflow-serving"\]')
_CONFIGMAP = "kubernetes/configmap.yaml"
_HEALTHCHECK = (
    "exec 3<>/dev/tcp/127.0.0.1/{port} && "
    "printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"
)


def render(kind: str, deployment: Deployment, listed: ModelConfig | None = None) -> dict[str, str]:
    """The files of a kind that serves a model: text by path.

    Args:
        kind: one of KINDS, not beam.
        deployment: the values.
        listed: versions and labels of the cluster's ConfigMap; by default the deployment's.

    Raises:
        ServingError: for KServe, the image has no tag.
    """
    values = _values(deployment, listed or deployment.models)
    if kind == "kserve":
        values["image_version"] = deployment.image_tag
    return fill(kind, values)


def fill(kind: str, values: Mapping[str, Any]) -> dict[str, str]:
    """The templates of a kind with their values in: text by path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("bnpipe.serving.deploy", "templates"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"quoted": _quoted, "compose": _compose, "shell": shlex.quote}
    return {
        path: environment.get_template(f"{path}.j2").render(values).rstrip() + "\n"
        for path in KINDS[kind]
    }


def write(folder: Path, files: dict[str, str], *, force: bool = False) -> None:
    """Write files below a folder, each atomically; those of others only if forced to.

    Raises:
        ForeignFile: there is one that was not written here.
        ServingError: the folder cannot be written.
    """
    try:
        write_files(folder, files, _OURS, force=force)
    except OSError as error:
        raise ServingError(f"cannot write to {folder}: {error.strerror}") from error


def next_step(folder: Path, wanted: ModelConfig) -> ModelConfig:
    """The next edit that a cluster takes, given the ConfigMap that it has.

    A server refuses an edit that lists a version and moves a label to it. Such an edit is cut in
    two: versions are listed first, and labels that exist stay where they are.

    Args:
        folder: where the files were written before, if they were.
        wanted: versions and labels in the end.
    """
    before = _read_configmap(folder / _CONFIGMAP)
    if before is None:
        return wanted
    versions, labels = before
    waiting = {
        label
        for label, version in wanted.labels.items()
        if label in labels and version not in (*versions, labels[label])
    }
    if not waiting:
        return wanted
    kept = {
        label: labels[label] if label in waiting else version
        for label, version in wanted.labels.items()
    }
    return replace(wanted, versions=tuple(sorted({*wanted.versions, *kept.values()})), labels=kept)


def _read_configmap(configmap: Path) -> tuple[list[int], dict[str, int]] | None:
    """Versions and labels of a ConfigMap that was written here; None if there is none."""
    try:
        text = configmap.read_text()
    except OSError:
        return None
    versions = [int(v) for v in re.findall(r"\bversions: (\d+)", text)]
    labels = re.findall(r'version_labels \{ key: "([^"]+)" value: (\d+) \}', text)
    return versions, {label: int(version) for label, version in labels}


def _values(deployment: Deployment, listed: ModelConfig) -> dict[str, Any]:
    models = deployment.models
    name, probe = deployment.resource_name, f"/v1/models/{models.name}/metadata"
    claim = deployment.claim
    return {
        **vars(deployment),
        "resource_name": name,
        "model_name": models.name,
        "model_path": f"{MODELS}/{models.name}",
        "base_path": models.base_path,
        "percent": deployment.percent,
        "canary": listed.labels.get("canary"),
        "newest_version": models.versions[-1],
        "models_config": replace(listed, base_path=f"{MODELS}/{models.name}").render().rstrip(),
        "monitoring_config": deployment.files.monitoring().rstrip(),
        "batching_config": deployment.files.batching().rstrip(),
        "metrics_path": deployment.files.prometheus_path,
        "claim": claim,
        "storage_uri": deployment.storage_uri or f"pvc://{claim}/{models.name}",
        "client_label": f"{name}-client",
        "probe_path": probe,
        "healthcheck": _HEALTHCHECK.format(port=deployment.rest_port, path=probe),
        "address": _address(deployment.host),
        "poll_seconds": POLL_SECONDS,
        "compose_flags": deployment.flags(models.base_path),
        "kubernetes_flags": deployment.flags(CONFIG),
        "kserve_flags": deployment.common_flags(),
        "queries": (queries := Queries(models.name, name)),
        "panels": queries.panels,
    }


def _address(host: str) -> str:
    """The host, as URLs take it, at which clients here find what is published on an address."""
    ip = ipaddress.ip_address(host)
    if ip.is_unspecified:
        ip = ipaddress.ip_address("::1" if ip.version == 6 else "127.0.0.1")
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _quoted(value: str) -> str:
    """A string of YAML, and of JSON unless it has characters beyond 16 bits."""
    return re.sub(
        r"[^\x00-\x7f]",
        lambda c: f"\\u{ord(c[0]):04x}" if ord(c[0]) < 1 << 16 else f"\\U{ord(c[0]):08x}",
        json_text(value, ensure_ascii=False),
    )


def _compose(value: str) -> str:
    """A string of a compose file, where a dollar sign would name a variable."""
    return _quoted(value.replace("$", "$$"))
