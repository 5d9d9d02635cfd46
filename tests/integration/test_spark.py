"""On a real Spark cluster of two workers: the same bytes, and what breaks breaks in a line."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, Project, new_project, outputs
from tests.integration.spark_cluster import MASTER, Cluster, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("spark")) as cluster:
        yield cluster


@pytest.fixture
def whole(cluster: Cluster) -> Cluster:
    """The cluster, with all of its processes."""
    for name in ("master", "worker1", "worker2", "pool1", "pool2"):
        if name not in cluster.processes:
            cluster.start(name)
    cluster.wait_until_ready()
    return cluster


def settings(cluster: Cluster, **spark: str) -> str:
    """The part of a configuration that names the cluster."""
    named = {"master": MASTER, "job_server": str(cluster.job_server), "parallelism": "4"} | spark
    lines = ", ".join(f"{key}: '{value}'" for key, value in named.items() if key != "parallelism")
    return f"beam: {{engine: spark, spark: {{{lines}, parallelism: {named['parallelism']}}}}}\n"


def test_every_artifact_has_the_bytes_of_a_local_run_and_both_hosts_had_part_in_it(
    whole: Cluster, locally: Project, tmp_path: Path
) -> None:
    project = new_project(tmp_path / "project", SMALL + settings(whole))
    whole.call(project, "run")
    assert outputs(project) == outputs(locally)
    hosts = set()
    for step in ("example_gen", "statistics_gen", "transform", "evaluator"):
        (units,) = re.findall(r"units of work by host: (.*)", project.call("logs", step))
        hosts |= set(re.findall(r"host\d", units))
    assert hosts == {"host1", "host2"}
