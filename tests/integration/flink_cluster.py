"""A Flink cluster of two TaskManagers on hosts of their own, from public packages only."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tests.integration import hosts
from tests.integration.hosts import ADDRESS, JAVA, fetched
from tests.waiting import wait_for

MASTER = f"{ADDRESS}:8081"
# Flink computes these from the size of the container in its shell scripts, which no package has.
_MEMORY = {
    "framework.heap.size": "128m",
    "framework.off-heap.size": "128m",
    "task.heap.size": "384m",
    "task.off-heap.size": "0",
    "network.min": "128m",
    "network.max": "128m",
    "managed.size": "256m",
    "jvm-metaspace.size": "256m",
    "jvm-overhead.min": "192m",
    "jvm-overhead.max": "192m",
}
_CONFIGURATION = {
    "jobmanager.rpc.address": ADDRESS,
    "jobmanager.memory.process.size": "1024m",
    "rest.address": ADDRESS,
    "rest.bind-address": "0.0.0.0",
    "rest.port": "8081",
    "taskmanager.numberOfTaskSlots": "2",
    "taskmanager.cpu.cores": "2",
    **{f"taskmanager.memory.{name}": size for name, size in _MEMORY.items()},
    "heartbeat.interval": "1000",
    "heartbeat.timeout": "6000",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "3",
    "restart-strategy.fixed-delay.delay": "2 s",
}


class Cluster(hosts.Cluster):
    """The cluster: `jobmanager`, `taskmanager1`, `pool1` and so on."""

    def __init__(self, folder: Path) -> None:
        jars = sorted(fetched("flink-1.19").glob("*.jar"))
        super().__init__(folder, jars, "org.apache.beam.runners.flink.FlinkJobServerDriver")
        (folder / "conf").mkdir()
        lines = "".join(f"{key}: {value}\n" for key, value in _CONFIGURATION.items())
        (folder / "conf" / "flink-conf.yaml").write_text(lines)

    def command(self, name: str) -> list[str]:
        """JobManager, TaskManagers, and a job server that is nobody's."""
        if name == "jobserver":
            ports = ["--job-port", "8099", "--artifact-port", "8098", "--expansion-port", "8097"]
            where = ["--job-host", ADDRESS, "--artifacts-dir", str(self.folder / "artifacts")]
            return ["java", "-jar", str(self.job_server), *ports, *where, "--flink-master", MASTER]
        words = [*JAVA, "-cp", self.class_path]
        conf = ["--configDir", str(self.folder / "conf")]
        if name == "jobmanager":
            main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
            return [*words, main, *conf]
        words += ["org.apache.flink.runtime.taskexecutor.TaskManagerRunner", *conf]
        words += ["-D", f"taskmanager.host={ADDRESS}{name[-1]}"]
        return [*words, "-D", f"taskmanager.resource-id={name}"]

    def rest(self, path: str) -> Any:
        """An answer of the JobManager; None while it gives none."""
        return self.ask(8081, path)

    def jobs(self, state: str) -> list[dict[str, Any]]:
        """Jobs in a state."""
        found = (self.rest("jobs/overview") or {"jobs": []})["jobs"]
        return [job for job in found if job["state"] == state]

    def wait_until_ready(self) -> None:
        """Waits for both TaskManagers, with nothing to do."""

        def ready() -> bool:
            found = self.rest("overview") or {}
            return (found.get("taskmanagers"), found.get("slots-available")) == (2, 4)

        wait_for(ready)


def running(folder: Path) -> AbstractContextManager[Cluster]:
    """The whole cluster, ready."""
    return hosts.running(lambda: Cluster(folder), ("jobmanager", "taskmanager1", "taskmanager2"))
