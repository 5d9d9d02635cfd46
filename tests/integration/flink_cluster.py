"""A Flink cluster in the shape of several hosts, on one, from public packages only.

The driver (JobManager, job server, bnpipe) has a network namespace, and so has each of two
TaskManagers with its pool of Beam workers: what listens on all addresses is reached from inside
only. Jars are kept in the user's cache folder. It needs root, `ip`, `unshare`, Java and Maven.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.child import environment
from tests.integration.conftest import Project
from tests.waiting import PATIENCE, wait_for

FLINK, BEAM = "1.19", "2.62.0"
HOSTS = f"bnpipe-{os.getpid()}-"
DRIVER, MASTER = f"{HOSTS}driver", "10.77.0.1:8081"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnpipe-tests"
_NEEDED = ("ip", "unshare", "java", "mvn")
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bnpipe</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.beam</groupId>
      <artifactId>beam-runners-flink-{FLINK}</artifactId><version>{BEAM}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.30</version>
    </dependency>
  </dependencies>
</project>
"""
_OPENED = [
    "java.lang",
    "java.net",
    "java.io",
    "java.nio",
    "sun.nio.ch",
    "java.lang.reflect",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
]
_JAVA = [
    "java",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=300m",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
]
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
    "jobmanager.rpc.address": "10.77.0.1",
    "jobmanager.memory.process.size": "1024m",
    "rest.address": "10.77.0.1",
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


def jars() -> Path:
    """The folder with Flink, Beam's runner for it and its job server; skips without them."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a Flink cluster needs root and {', '.join(_NEEDED)}; missing: {missing}")
    folder = CACHE / f"flink-{FLINK}-beam-{BEAM}"
    if not folder.is_dir():
        loading = folder.with_suffix(".part")
        loading.mkdir(parents=True, exist_ok=True)
        (loading / "pom.xml").write_text(_POM)
        words = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={loading}"]
        done = subprocess.run(words, cwd=loading, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"Flink's jars cannot be had: {done.stdout.strip().splitlines()[:1]}")
        loading.rename(folder)
    return folder


class Cluster:
    """The cluster; every process by name: `jobmanager`, `taskmanager1`, `pool1` and so on."""

    def __init__(self, folder: Path, jars: Path) -> None:
        self.folder, self.job_server = folder, folder / "job-server.jar"
        self._class_path = ":".join(map(str, sorted(jars.glob("*.jar"))))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "conf").mkdir()
        lines = "".join(f"{key}: {value}\n" for key, value in _CONFIGURATION.items())
        (folder / "conf" / "flink-conf.yaml").write_text(lines)
        self._write_job_server(jars)

    def _write_job_server(self, jars: Path) -> None:
        """A jar that is only a class path: the fat one of Beam's is not among the packages."""
        paths = " ".join(path.as_uri() for path in sorted(jars.glob("*.jar")))
        line = f"Class-Path: {paths}"
        folded = [line[:70], *(f" {line[i : i + 69]}" for i in range(70, len(line), 69))]
        main = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        manifest = ["Manifest-Version: 1.0", f"Main-Class: {main}", *folded, "", ""]
        with zipfile.ZipFile(self.job_server, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "\r\n".join(manifest))

    def start(self, name: str, *, python_path: str = "", without: Path | None = None) -> None:
        """Starts one of its processes.

        Args:
            name: which.
            python_path: of a pool: where its workers look for packages first.
            without: of a pool: a folder that its host does not mount.
        """
        number, words = name[-1], [*_JAVA, "-cp", self._class_path]
        namespace = DRIVER if name == "jobmanager" else f"{HOSTS}host{number}"
        conf = ["--configDir", str(self.folder / "conf")]
        environ = environment()
        if name == "jobmanager":
            words += ["org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"]
            words += conf
        elif name.startswith("taskmanager"):
            words += ["org.apache.flink.runtime.taskexecutor.TaskManagerRunner", *conf]
            words += ["-D", f"taskmanager.host=10.77.0.1{number}"]
            words += ["-D", f"taskmanager.resource-id={name}"]
        else:
            module = "apache_beam.runners.worker.worker_pool_main"
            words = [sys.executable, "-P", "-m", module, "--service_port=50000"]
            environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        hide = f"mount -t tmpfs none {shlex.quote(str(without))} && " if without else ""
        hosts = self.folder / f"{name}.hosts"
        hosts.write_text(f"127.0.0.1 localhost\n10.77.0.1{number} host{number}\n")
        named = f"hostname host{number}; mount --bind {shlex.quote(str(hosts))} /etc/hosts"
        path = f"PYTHONPATH={shlex.quote(python_path)}"
        shell = f"{named}; {hide}exec env {path} {shlex.join(words)}"
        tied = [sys.executable, "-P", "-m", "bnpipe.data.parent", str(os.getpid())]
        inside = [*tied, *f"ip netns exec {namespace} unshare --mount --uts sh -c".split()]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*inside, shell], stdout=log, stderr=log, env=environ, start_new_session=True
            )

        if name.startswith("pool"):
            listening = ["ip", "netns", "exec", namespace, "ss", "-Hltn", "sport = :50000"]
            wait_for(lambda: subprocess.run(listening, capture_output=True, check=True).stdout)

    def kill(self, name: str) -> None:
        """kill -9 of a process and what it started."""
        process = self.processes.pop(name, None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def restart(self, name: str) -> None:
        """Ends one, if it is there, and starts it again."""
        self.kill(name)
        self.start(name)

    def stop(self) -> None:
        """Ends all."""
        for name in list(self.processes):
            self.kill(name)

    def rest(self, path: str) -> Any:
        """An answer of the JobManager; None while it gives none."""
        words = ["ip", "netns", "exec", DRIVER, "curl", "-sf", f"http://{MASTER}/{path}"]
        done = subprocess.run(words, capture_output=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def jobs(self, state: str) -> list[dict[str, Any]]:
        """Jobs in a state, without the small ones that try the cluster."""
        found = (self.rest("jobs/overview") or {"jobs": []})["jobs"]
        return [job for job in found if job["state"] == state]

    def wait_until_ready(self, managers: int = 2) -> None:
        """Waits for as many TaskManagers, with nothing to do."""

        def ready() -> bool:
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            assert not ended, (self.folder / f"{ended[0]}.log").read_text()[-2000:]
            found = self.rest("overview") or {}
            return (found.get("taskmanagers"), found.get("slots-available")) == (
                managers,
                2 * managers,
            )

        wait_for(ready)

    def begin(self, project: Project, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Starts bnpipe beside the JobManager."""
        command = ["ip", "netns", "exec", DRIVER, sys.executable, "-m", "bnpipe.pipeline"]
        return subprocess.Popen(
            [*command, *words],
            cwd=project.folder,
            env=environment(**environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, project: Project, *words: str, exit_code: int = 0) -> str:
        """Runs bnpipe, expects its exit code; returns what it wrote, without progress."""
        return self.end(self.begin(project, *words), exit_code)

    def end(self, child: subprocess.Popen[str], exit_code: int = 0) -> str:
        """Waits for bnpipe; returns what it wrote."""
        out, err = child.communicate(timeout=2 * PATIENCE)
        assert child.returncode == exit_code, f"exit {child.returncode}\n{out}\n{err}"
        assert "Traceback" not in out + err, out + err
        return out + err


@contextmanager
def hosts() -> Iterator[None]:
    """Three network namespaces on one bridge."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    with ExitStack() as stack:
        for name in (DRIVER, f"{HOSTS}host1", f"{HOSTS}host2"):
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces: {error.stderr.decode().strip()}")
            stack.callback(ip, "netns", "del", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", DRIVER, "link", "add", "bridge0", "type", "bridge")
        ip("-n", DRIVER, "addr", "add", "10.77.0.1/24", "dev", "bridge0")
        ip("-n", DRIVER, "link", "set", "bridge0", "up")
        for number in "12":
            host = f"{HOSTS}host{number}"
            ip(
                "-n",
                DRIVER,
                "link",
                "add",
                f"to{number}",
                "type",
                "veth",
                "peer",
                "eth0",
                "netns",
                host,
            )
            ip("-n", DRIVER, "link", "set", f"to{number}", "master", "bridge0", "up")
            ip("-n", host, "addr", "add", f"10.77.0.1{number}/24", "dev", "eth0")
            ip("-n", host, "link", "set", "eth0", "up")
        yield


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """The whole cluster, ready."""
    found = jars()
    with hosts():
        cluster = Cluster(folder, found)
        try:
            for name in ("jobmanager", "taskmanager1", "taskmanager2", "pool1", "pool2"):
                cluster.start(name)
            cluster.wait_until_ready()
            yield cluster
        finally:
            cluster.stop()
