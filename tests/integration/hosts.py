"""Several hosts on one machine, and what every cluster of tests has there.

The driver (master, job server, bnpipe) has a network namespace, and so has each of two hosts with a
pool of Beam workers: what listens on all addresses is reached from inside only. Jars are kept in
the user's cache folder. It needs root, `ip`, `unshare`, Java and Maven.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.child import environment
from tests.integration.conftest import Project
from tests.waiting import wait_for

BEAM = "2.62.0"
HOSTS = f"bnpipe-{os.getpid()}-"
DRIVER, ADDRESS = f"{HOSTS}driver", "10.77.0.1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnpipe-tests"
_NEEDED = ("ip", "unshare", "java", "mvn")
_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>bnpipe</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.beam</groupId>
      <artifactId>beam-runners-{runner}</artifactId><version>{beam}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.30</version>
    </dependency>
  </dependencies>
</project>
"""
_OPENED = [
    "java.lang",
    "java.lang.invoke",
    "java.lang.reflect",
    "java.io",
    "java.net",
    "java.nio",
    "java.text",
    "java.time",
    "java.util",
    "java.util.concurrent",
    "java.util.concurrent.atomic",
    "java.util.concurrent.locks",
    "sun.nio.ch",
]
JAVA = [
    "java",
    "-Xmx512m",
    "-XX:MaxDirectMemorySize=300m",
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
]


def require() -> None:
    """Skips where there can be no such hosts."""
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"a cluster needs root and {', '.join(_NEEDED)}; missing: {missing}")


def fetched(runner: str, *words: str) -> Path:
    """A folder with the jars of one of Beam's runners, fetched once; skips without them.

    Args:
        runner: its name with its version.
        words: a command that adds more, run in a folder with them; nothing without words.
    """
    require()
    folder = CACHE / f"{runner}-beam-{BEAM}"
    if not folder.is_dir():
        loading = folder.with_suffix(".part")
        loading.mkdir(parents=True, exist_ok=True)
        (loading / "pom.xml").write_text(_POM.format(runner=runner, beam=BEAM))
        jars = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={loading}"]
        for command in filter(None, (jars, words)):
            done = subprocess.run(command, cwd=loading, capture_output=True, text=True)
            if done.returncode != 0:
                said = (done.stdout + done.stderr).strip().splitlines()[:1]
                pytest.skip(f"the jars of {runner} cannot be had: {said}")
        loading.rename(folder)
    return folder


class Cluster(ABC):
    """Processes by name; a number at its end is that of the host, the others are on the driver's.

    Attributes:
        folder: for what they write.
        job_server: Beam's, a jar that is only a class path: the fat one is not among the packages.
        processes: by name, e.g. `pool1`.
    """

    def __init__(self, folder: Path, jars: Sequence[Path], main: str) -> None:
        self.folder, self.job_server = folder, folder / "job-server.jar"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.class_path = ":".join(map(str, jars))
        line = f"Class-Path: {' '.join(path.as_uri() for path in jars)}"
        folded = [line[:70], *(f" {line[i : i + 69]}" for i in range(70, len(line), 69))]
        manifest = ["Manifest-Version: 1.0", f"Main-Class: {main}", *folded, "", ""]
        with zipfile.ZipFile(self.job_server, "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "\r\n".join(manifest))

    @abstractmethod
    def command(self, name: str) -> list[str]:
        """The command line of one of its processes, but for pools of workers."""

    @abstractmethod
    def wait_until_ready(self) -> None:
        """Waits until it is whole, with nothing to do."""

    def start(self, name: str, *, python_path: str = "", without: Path | None = None) -> None:
        """Starts one of its processes.

        Args:
            name: which.
            python_path: of a pool: where its workers look for packages first.
            without: of a pool: a folder that its host does not mount.
        """
        number = name[-1] if name[-1].isdigit() else ""
        host = f"host{number}" if number else "driver"
        environ, is_pool = environment(), name.startswith("pool")
        if is_pool:
            module = "apache_beam.runners.worker.worker_pool_main"
            words = [sys.executable, "-P", "-m", module, "--service_port=50000"]
            environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        else:
            words = self.command(name)
        hide = f"mount -t tmpfs none {shlex.quote(str(without))} && " if without else ""
        known = self.folder / f"{name}.hosts"
        known.write_text(f"127.0.0.1 localhost\n{ADDRESS}{number} {host}\n")
        named = f"hostname {host}; mount --bind {shlex.quote(str(known))} /etc/hosts"
        path = f"PYTHONPATH={shlex.quote(python_path)}"
        shell = f"{named}; {hide}exec env {path} {shlex.join(words)}"
        tied = [sys.executable, "-P", "-m", "bnpipe.data.parent", str(os.getpid())]
        inside = [*tied, *f"ip netns exec {HOSTS}{host} unshare --mount --uts sh -c".split()]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [*inside, shell], stdout=log, stderr=log, env=environ, start_new_session=True
            )
        if is_pool:
            listening = ["ip", "netns", "exec", f"{HOSTS}{host}", "ss", "-Hltn", "sport = :50000"]
            wait_for(lambda: subprocess.run(listening, capture_output=True, check=True).stdout)

    def kill(self, name: str) -> None:
        """kill -9 of a process and what it started."""
        process = self.processes.pop(name, None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_job_server(self) -> None:
        """kill -9 of the job server that a run has started."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if str(self.job_server) in (process / "cmdline").read_text():
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue

    def restart(self, name: str) -> None:
        """Ends one, if it is there, and starts it again."""
        self.kill(name)
        self.start(name)

    def stop(self) -> None:
        """Ends all."""
        for name in list(self.processes):
            self.kill(name)

    def ask(self, port: int, path: str) -> Any:
        """An answer of the master over HTTP; None while it gives none."""
        ended = [name for name, process in self.processes.items() if process.poll() is not None]
        assert not ended, (self.folder / f"{ended[0]}.log").read_text()[-2000:]
        words = ["ip", "netns", "exec", DRIVER, "curl", "-sf", f"http://{ADDRESS}:{port}/{path}"]
        done = subprocess.run(words, capture_output=True)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def begin(self, project: Project, *words: str, **environ: str) -> subprocess.Popen[str]:
        """Starts bnpipe beside the master."""
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
        try:
            out, err = child.communicate(timeout=1500)
        finally:
            if child.poll() is None:  # else it would have the home, and the cluster's slots
                os.killpg(child.pid, signal.SIGKILL)
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


Made = TypeVar("Made", bound=Cluster)


@contextmanager
def running(make: Callable[[], Made], names: Sequence[str]) -> Iterator[Made]:
    """A whole cluster on hosts, ready.

    Args:
        make: makes it.
        names: its processes, in the order of their starts.
    """
    require()
    with hosts():
        cluster = make()
        try:
            for name in (*names, "pool1", "pool2"):
                cluster.start(name)
            cluster.wait_until_ready()
            yield cluster
        finally:
            cluster.stop()
