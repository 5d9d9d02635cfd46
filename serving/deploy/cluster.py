"""The values of the worker image and of the Flink cluster that Beam's steps run on.

Nothing of them has to do with a published model. Versions are those installed here, so that workers
have what the pipeline was locked with.
"""

from __future__ import annotations

import platform
import re
from importlib import metadata
from typing import Any

from bnpipe.serving.deploy import FLINK
from bnpipe.serving.deploy.settings import check_image
from bnpipe.serving.errors import ServingError

FILES = tuple(
    f"beam/{name}"
    for name in ("Dockerfile", "Dockerfile.dockerignore", "home.yaml", "flink.yaml", "run.yaml")
)
_SLOTS, _REST, _JOB, _ARTIFACT = 2, 8081, 8099, 8098
_POOL = 50000
"""Beam's boot program takes no other."""
_CLIENTS = ["run", "retrain"]
_FIXED = {
    # As in the schedule's CronJob.
    "home": "/var/lib/bnpipe",
    "uid": 65532,
    "slots": _SLOTS,
    "rest_port": _REST,
    "job_port": _JOB,
    "artifact_port": _ARTIFACT,
    "pool_port": _POOL,
    # Whose ports are reached by whom; those of workers by nobody else.
    "allowed": [
        ("jobmanager", [6123, 6124], ["taskmanager", "jobmanager"]),
        ("jobmanager", [_REST], ["job-server", *_CLIENTS]),
        ("taskmanager", [6121, 6122, 6125], ["taskmanager", "jobmanager"]),
        ("job-server", [_JOB, _ARTIFACT], _CLIENTS),
    ],
}


def values(
    *,
    image: str | None,
    flink_image: str,
    job_server_image: str | None,
    task_managers: int,
    home_mb: int,
    config: str,
) -> dict[str, Any]:
    """What the templates of `beam/` are filled with.

    Args:
        image: of `beam/Dockerfile`, where the cluster finds it; None: bnpipe:<version>.
        flink_image: its tag begins with Flink's version.
        job_server_image: None: Beam's for that Flink.
        task_managers: how many.
        home_mb: MiB of the claim that is the home.
        config: text of the configuration file that a run gets.

    Raises:
        ServingError: an image is not pinned, or that of Flink does not tell its version.
    """
    image = image or f"bnpipe:{metadata.version('bnpipe')}"
    flink = re.search(r":(\d+\.\d+)\.\d+", flink_image)
    if flink is None:
        raise ServingError(
            f"deploy.beam.flink_image: expected a tag that begins with Flink's version, "
            f"received {flink_image!r}",
            hint=f"e.g. {FLINK}",
        )
    beam = metadata.version("apache-beam")
    job_server_image = job_server_image or f"apache/beam_flink{flink[1]}_job_server:{beam}"
    check_image(image, "deploy.beam.image", "registry.example/bnpipe:1")
    check_image(flink_image, "deploy.beam.flink_image", FLINK)
    check_image(job_server_image, "deploy.beam.job_server_image", f"registry.example/jobs:{beam}")
    settings = {
        "engine": "flink",
        "flink.master": f"bnpipe-jobmanager:{_REST}",
        "flink.version": f'"{flink[1]}"',
        "flink.job_server": f"bnpipe-job-server:{_JOB}",
        "flink.environment": f"external:localhost:{_POOL}",
        "flink.parallelism": _SLOTS * task_managers,
    }
    return _FIXED | {
        "image": image,
        "flink_image": flink_image,
        "job_server_image": job_server_image,
        "task_managers": task_managers,
        "home_mb": home_mb,
        "home_shared": True,
        "config": config,
        "settings": [f"beam.{key}={value}" for key, value in settings.items()],
        "beam": beam,
        "python": platform.python_version(),
        "python_minor": ".".join(platform.python_version_tuple()[:2]),
    }
