"""On a real Flink cluster of two TaskManagers: the same bytes, and what breaks breaks in a line."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import SMALL, Project, new_project, outputs
from tests.integration.flink_cluster import MASTER, Cluster, running
from tests.integration.hosts import ADDRESS
from tests.waiting import wait_for

pytestmark = [pytest.mark.flink, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("flink")) as cluster:
        yield cluster


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with all of its processes, before and after."""
    for name in ("taskmanager1", "taskmanager2", "pool1", "pool2"):
        if name not in cluster.processes:
            cluster.start(name)
    cluster.wait_until_ready()
    yield cluster


def settings(cluster: Cluster, **flink: str) -> str:
    """The part of a configuration that names the cluster."""
    named = {
        "master": MASTER,
        "job_server": str(cluster.job_server),
        "version": '"1.19"',
    } | flink
    lines = ", ".join(f"{key}: {value}" for key, value in named.items())
    return f"beam: {{engine: flink, flink: {{{lines}}}}}\nrun: {{jobs: 1}}\n"


def project_in(folder: Path, cluster: Cluster, **flink: str) -> Project:
    """A project whose configuration names the cluster."""
    return new_project(folder, SMALL + settings(cluster, **flink))


def project_before(step: str, folder: Path, cluster: Cluster, locally: Project) -> Project:
    """The same, with all but one step done."""
    return locally.forgetful(project_in(folder, cluster).folder, step)


def test_every_artifact_has_the_bytes_of_a_local_run_and_both_hosts_had_part_in_it(
    whole: Cluster, locally: Project, tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", whole)
    whole.call(project, "run")
    assert outputs(project) == outputs(locally)
    of_run = [job for job in whole.jobs("FINISHED") if job["name"].startswith("bnpipe-0001-")]
    assert len(of_run) == 5  # the one that tries the cluster, and four steps
    for job in of_run:
        hosts = set()
        for vertex in whole.rest(f"jobs/{job['jid']}")["vertices"]:
            found = whole.rest(f"jobs/{job['jid']}/vertices/{vertex['id']}/taskmanagers")
            hosts |= {m["endpoint"] for m in found["taskmanagers"] if m["metrics"]["read-records"]}
        assert len(hosts) == 2, job
    assert "cached" in project.call("run", "--set", "beam.engine=local")


_ONE_EPOCH = """\
trainer: {epochs: 1, batch_size: 512}
evaluator:
  rules: {slice_floor: off}
  min_accuracy: 0.5
  min_class_accuracy: 0.1
  margin: 0.4
  max_calibration_error: 0.5
  resamples: 500
"""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", [None, 200_000], ids=["mnist", "200000"])
def test_each_host_had_part_in_every_step_and_the_bytes_are_the_same(
    whole: Cluster, tmp_path: Path, size: int | None, request: pytest.FixtureRequest
) -> None:
    if size is None:
        data = f"archives: '{request.getfixturevalue('mnist_archives')}'"
    else:
        data = f"dataset: rendered_digits, size: {size}"
    # Where a shard is read is chance: of 16 none falls to one host in 30,000 runs.
    one_epoch = f"data: {{{data}, shards: 16}}\n{_ONE_EPOCH}"
    local = new_project(tmp_path / "local", one_epoch)
    local.call("run", "--to", "evaluator")
    # With fewer parts than slots Flink may take all of them on one host.
    project = new_project(tmp_path / "project", one_epoch + settings(whole, parallelism="4"))
    whole.call(project, "run", "--to", "evaluator")
    assert outputs(project) == outputs(local)
    for step in ("example_gen", "statistics_gen", "transform", "evaluator"):
        log = project.call("logs", "latest", step)
        assert re.search(r"images by host: host1 \d+, host2 \d+$", log, re.MULTILINE), log


def wait_until_at_work(cluster: Cluster, child: subprocess.Popen[str]) -> None:
    """Waits for the job of a run's first step; the first job of a run tries the cluster."""

    def at_work() -> bool:
        if child.poll() is not None:
            cluster.end(child, exit_code=-1)
        found = (cluster.rest("jobs/overview") or {"jobs": []})["jobs"]
        mine = [job for job in found if job["name"].startswith("bnpipe-0001-")]
        states = sorted(job["state"] for job in mine)
        return states == ["FINISHED", "RUNNING"]

    wait_for(at_work)


@pytest.fixture
def fresh(whole: Cluster) -> Cluster:
    """The cluster without jobs of earlier tests: their runs have the same numbers."""
    whole.restart("jobmanager")
    whole.wait_until_ready()
    return whole


in_every_part = pytest.mark.parametrize("step", ["example_gen", "evaluator"])


@in_every_part
@pytest.mark.parametrize("lost", ["taskmanager1", "pool1"])
def test_what_a_step_loses_comes_back_and_the_bytes_are_the_same(
    fresh: Cluster, locally: Project, tmp_path: Path, lost: str, step: str
) -> None:
    project = project_before(step, tmp_path / "project", fresh, locally)
    child = fresh.begin(project, "run", "--to", step)
    wait_until_at_work(fresh, child)
    fresh.kill(lost)
    fresh.start(lost)
    fresh.end(child)
    assert outputs(project)[step] == outputs(locally)[step]


@in_every_part
def test_ctrl_c_cancels_the_job_on_the_cluster(
    fresh: Cluster, locally: Project, tmp_path: Path, step: str
) -> None:
    project = project_before(step, tmp_path / "project", fresh, locally)
    child = fresh.begin(project, "run", "--to", step)
    wait_until_at_work(fresh, child)
    os.killpg(child.pid, signal.SIGINT)
    fresh.end(child, exit_code=130)
    assert not fresh.jobs("RUNNING")
    assert fresh.jobs("CANCELED")


def test_ctrl_c_while_a_job_server_of_others_submits_a_job_cancels_that_too(
    fresh: Cluster, locally: Project, tmp_path: Path
) -> None:
    named = project_in(tmp_path / "project", fresh, job_server=f"{ADDRESS}:8099")
    project = locally.forgetful(named.folder, "evaluator")
    log = fresh.folder / "jobserver.log"
    fresh.start("jobserver")
    try:
        wait_for(lambda: "JobService started" in log.read_text())
        child = fresh.begin(project, "run", "--to", "evaluator")
        wait_for(lambda: log.read_text().count("Submitting job") == 2 or child.poll() is not None)
        os.killpg(child.pid, signal.SIGINT)
        fresh.end(child, exit_code=130)
        assert not fresh.jobs("RUNNING")
        assert len(fresh.jobs("FINISHED")) == len(fresh.jobs("CANCELED")) == 1
    finally:
        fresh.kill("jobserver")


@in_every_part
def test_the_job_of_a_killed_run_is_ended_by_the_next(
    fresh: Cluster, locally: Project, tmp_path: Path, step: str
) -> None:
    project = project_before(step, tmp_path / "project", fresh, locally)
    child = fresh.begin(project, "run", "--to", step)
    wait_until_at_work(fresh, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    fresh.call(project, "run", "--to", step)
    assert outputs(project)[step] == outputs(locally)[step]
    assert fresh.jobs("CANCELED")


@in_every_part
@pytest.mark.parametrize("lost", ["jobmanager", "job server"])
def test_a_run_whose_cluster_is_lost_says_so_and_the_next_one_goes_on(
    fresh: Cluster, locally: Project, tmp_path: Path, lost: str, step: str
) -> None:
    project = project_before(step, tmp_path / "project", fresh, locally)
    child = fresh.begin(project, "run", "--to", step, "--set", "run.attempts=1")
    wait_until_at_work(fresh, child)
    if lost == "jobmanager":
        fresh.kill(lost)
    else:
        fresh.kill_job_server()
    line = fresh.end(child, exit_code=1).strip().splitlines()[-1]
    assert line.startswith(f"error: {step} failed: ")
    assert MASTER in line
    if lost == "jobmanager":
        fresh.start(lost)
        fresh.wait_until_ready()
    fresh.call(project, "run", "--to", step)
    assert outputs(project)[step] == outputs(locally)[step]


def complaint(cluster: Cluster, project: Project, name: str) -> str:
    """The line of `doctor --engine` on a check, which must fail; a run says the same."""
    found = cluster.call(project, "doctor", "--engine", exit_code=1)
    line, *others = [line for line in found.splitlines() if line.startswith("!!")]
    assert not others, found
    assert line.split()[1] == name.split()[0], found
    said = cluster.call(project, "run", exit_code=1).strip().splitlines()[-1]
    assert said.startswith(f"error: example_gen failed: flink, {name}: "), said
    return line


def test_no_jobmanager_and_no_job_server_are_named_with_host_and_port(
    whole: Cluster, tmp_path: Path
) -> None:
    nobody = project_in(tmp_path / "a", whole, master="10.77.0.1:9")
    assert "JobManager at 10.77.0.1:9 does not answer: Connection refused" in complaint(
        whole, nobody, "engine"
    )
    dead = project_in(tmp_path / "b", whole, job_server="10.77.0.1:9")
    assert "nobody answers at 10.77.0.1:9: Connection refused" in complaint(
        whole, dead, "job server"
    )


def test_too_few_slots_and_another_version_are_named(whole: Cluster, tmp_path: Path) -> None:
    many = project_in(tmp_path / "a", whole, parallelism="9")
    assert "4 of 4 slots free on 2 TaskManagers, 9 needed" in complaint(whole, many, "slots")
    other = project_in(tmp_path / "b", whole, version='"1.20"')
    assert f"Flink 1.19.0 at {MASTER}, expected 1.20" in complaint(whole, other, "engine")


def test_workers_on_one_host_that_do_not_see_the_home_are_named(
    whole: Cluster, tmp_path: Path
) -> None:
    project = project_in(tmp_path / "project", whole)
    whole.kill("pool2")
    whole.start("pool2", without=project.folder)
    line = complaint(whole, project, "home")
    assert f"the worker on host2 does not see {project.home}: No such file" in line
    whole.kill("pool2")


def test_workers_without_the_package_are_named(whole: Cluster, tmp_path: Path) -> None:
    project = project_in(tmp_path / "project", whole)
    hidden = tmp_path / "hidden" / "bnpipe"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError('No module named bnpipe')")
    whole.kill("pool1")
    whole.start("pool1", python_path=str(hidden.parent))
    line = complaint(whole, project, "workers")
    assert re.search(r"10\.77\.0\.11:\d+: ModuleNotFoundError: No module named bnpipe", line), line
    whole.kill("pool1")


def test_workers_of_another_checkout_are_named(whole: Cluster, tmp_path: Path) -> None:
    project = project_in(tmp_path / "project", whole)
    other = tmp_path / "other" / "bnpipe"
    root = Path(__file__).parents[2]
    for room in ("pipeline", "components", "serving", "data"):
        shutil.copytree(root / room, other / room)
    constant = other / "data" / "preprocessing.py"
    constant.write_text(f"{constant.read_text()}\nOTHER = 1\n")
    whole.kill("pool1")
    whole.start("pool1", python_path=str(other.parent))
    line = complaint(whole, project, "worker code")
    assert "the Beam worker on host1 has other code: expected code" in line
    whole.kill("pool1")


def test_nobody_at_the_address_of_the_workers(whole: Cluster, tmp_path: Path) -> None:
    project = project_in(tmp_path / "project", whole, environment="external:localhost:9")
    assert MASTER in complaint(whole, project, "workers")


def test_no_docker_on_the_hosts(whole: Cluster, tmp_path: Path) -> None:
    if shutil.which("docker"):
        pytest.skip("there is a docker here")
    project = project_in(tmp_path / "project", whole, environment="docker:bnpipe:none")
    assert 'Cannot run program "docker"' in complaint(whole, project, "workers")
