"""On a real Spark cluster of two workers: the same bytes, and what breaks breaks in a line."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, Project, new_project, outputs
from tests.integration.hosts import ADDRESS
from tests.integration.spark_cluster import MASTER, Cluster, running
from tests.waiting import wait_for

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


def project_before(step: str, folder: Path, cluster: Cluster, locally: Project) -> Project:
    """A project with all but one step done."""
    project = new_project(folder, SMALL + settings(cluster))
    return locally.forgetful(project.folder, step)


def test_every_artifact_has_the_bytes_of_a_local_run_and_both_hosts_had_part_in_it(
    whole: Cluster, locally: Project, tmp_path: Path
) -> None:
    project = new_project(tmp_path / "project", SMALL + settings(whole))
    whole.call(project, "run")
    assert outputs(project) == outputs(locally)
    hosts = set()
    for step in ("example_gen", "statistics_gen", "transform", "evaluator"):
        (units,) = re.findall(r"images by host: (.*)", project.call("logs", "latest", step))
        hosts |= set(re.findall(r"host\d", units))
    assert hosts == {"host1", "host2"}


def wait_until_at_work(cluster: Cluster, project: Project, child: subprocess.Popen[str]) -> None:
    """Waits for the job of a run's first step; the first job of a run tries the cluster."""

    def at_work() -> bool:
        if child.poll() is not None:
            cluster.end(child, exit_code=-1)
        record = project.home / "runs" / "0001" / "engine.json"
        prefix = json.loads(record.read_text())["jobs"] if record.is_file() else None
        apps = cluster.apps()
        mine = {state: [a for a in apps[state] if a.startswith(prefix or "-")] for state in apps}
        return len(mine["completed"]) == len(mine["active"]) == 1

    wait_for(at_work)


@pytest.mark.parametrize(("lost", "step"), [("worker1", "evaluator"), ("pool1", "example_gen")])
def test_what_a_step_loses_comes_back_and_the_bytes_are_the_same(
    whole: Cluster, locally: Project, tmp_path: Path, lost: str, step: str
) -> None:
    project = project_before(step, tmp_path / "project", whole, locally)
    child = whole.begin(project, "run", "--to", step)
    wait_until_at_work(whole, project, child)
    whole.restart(lost)
    whole.end(child)
    assert outputs(project)[step] == outputs(locally)[step]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_that_is_ended_leaves_nothing_at_work_and_the_next_one_goes_on(
    whole: Cluster, locally: Project, tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    step = "evaluator"
    project = project_before(step, tmp_path / "project", whole, locally)
    child = whole.begin(project, "run", "--to", step)
    wait_until_at_work(whole, project, child)
    os.killpg(child.pid, sent)
    whole.end(child, exit_code=code)
    whole.wait_until_ready()
    whole.call(project, "run", "--to", step)
    assert outputs(project)[step] == outputs(locally)[step]


def test_a_lost_job_server_is_told_in_a_line_and_the_next_run_goes_on(
    whole: Cluster, locally: Project, tmp_path: Path
) -> None:
    step = "example_gen"
    project = project_before(step, tmp_path / "project", whole, locally)
    child = whole.begin(project, "run", "--to", step, "--set", "run.attempts=1")
    wait_until_at_work(whole, project, child)
    whole.kill_job_server()
    line = whole.end(child, exit_code=1).strip().splitlines()[-1]
    assert line.startswith(f"error: {step} failed: the job server at localhost:")
    assert f"for Spark at {MASTER} does not answer" in line
    whole.call(project, "run", "--to", step)
    assert outputs(project)[step] == outputs(locally)[step]


@pytest.mark.parametrize(
    ("name", "named", "line"),
    [
        ("engine", {"master": f"spark://{ADDRESS}:9"}, f"at {ADDRESS}:9: Connection refused"),
        ("job server", {"job_server": f"{ADDRESS}:9"}, f"at {ADDRESS}:9: Connection refused"),
        ("workers", {"environment": "external:localhost:9"}, f"job on Spark at {MASTER} failed"),
    ],
)
def test_nobody_at_an_address_is_named(
    whole: Cluster, tmp_path: Path, name: str, named: dict[str, str], line: str
) -> None:
    project = new_project(tmp_path / "project", SMALL + settings(whole, **named))
    told = [
        found
        for found in whole.call(project, "doctor", "--engine", exit_code=1).splitlines()
        if found.startswith("!!")
    ]
    assert len(told) == 1
    assert line in told[0]
    said = whole.call(project, "run", exit_code=1).strip().splitlines()[-1]
    assert said.startswith(f"error: example_gen failed: spark, {name}: "), said
