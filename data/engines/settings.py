"""The settings of every engine that Beam pipelines run on, and the Beam flags that they become.

Each engine but Dataflow is reached through a Beam job server, which nothing downloads: it is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import annotated_types as at

from bnpipe.data.errors import RequestError
from bnpipe.data.json_text import json_text

EngineName = Literal["local", "prism", "flink", "spark", "dataflow"]

_WHERE = "Maven Central has the jars of org.apache.beam, the Go module proxy Prism"


@dataclass(frozen=True, kw_only=True)
class Prism:
    """Beam's own runner for one machine."""

    job_server: str | None = None
    """The program `prism`, or HOST:PORT of one that runs."""
    job_server_sha256: str | None = None
    """Checksum of the program: another one is not started."""
    environment: str = "loopback"
    """The workers: `loopback` in the step's own process, `external:HOST:PORT` for a worker pool,
    `docker:IMAGE` or `process:COMMAND`."""
    stalled_seconds: Annotated[float, at.Gt(0)] = 3600.0
    """Time after which a job whose workers count nothing more is given up, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Flink:
    """A Flink session cluster, 1.19 or 1.20."""

    master: str | None = None
    """REST address of the JobManager, HOST:PORT."""
    version: str = "1.19"
    """Version of Flink, which the job server must be made for."""
    job_server: str | None = None
    """Jar of Beam's job server for this version, which then runs here as long as the run; or
    HOST:PORT of one that runs."""
    job_server_sha256: str | None = None
    """Checksum of the jar: another one is not started."""
    environment: str = "external:localhost:50000"
    """The workers, as of prism; `localhost` is where the TaskManager is, so each has its own."""
    parallelism: Annotated[int, at.Ge(1)] | None = None
    """Number of parts that are worked on at a time; by default one for every free slot."""
    stalled_seconds: Annotated[float, at.Gt(0)] = 3600.0
    """Time after which a job that reads and writes nothing is given up, in seconds; Flink counts
    what a worker has read only when it is done with a bundle."""


@dataclass(frozen=True, kw_only=True)
class Spark:
    """A Spark 3 cluster."""

    master: str | None = None
    """Address of the master, spark://HOST:PORT."""
    job_server: str | None = None
    """Jar of Beam's job server for Spark 3, which then runs here as long as the run; or HOST:PORT
    of one that runs."""
    job_server_sha256: str | None = None
    """Checksum of the jar: another one is not started."""
    environment: str = "external:localhost:50000"
    """The workers, as of prism; `localhost` is where an executor is, one on each machine."""
    parallelism: Annotated[int, at.Ge(1)] | None = None
    """Number of cores to wait for and to use, if the job server is a jar; by default what Spark has
    ready when a job begins, which may be one machine of many."""
    stalled_seconds: Annotated[float, at.Gt(0)] = 3600.0
    """Time after which a job that ends no task is given up, in seconds, if the job server is a jar:
    Spark's pages, which are asked, are then at a port that is known."""

    @property
    def masters(self) -> list[str]:
        """The addresses of the master and of those that may take its place."""
        return (self.master or "").removeprefix("spark://").split(",")


@dataclass(frozen=True, kw_only=True)
class Dataflow:
    """Google Cloud Dataflow; nothing of it is tested."""

    project: str | None = None
    """The project."""
    region: str | None = None
    """The region, e.g. europe-west1."""
    temp_location: str | None = None
    """Folder for Dataflow's own files, gs://BUCKET/PATH."""
    image: str | None = None
    """The worker image; it must mount the home under the same path."""


@dataclass(frozen=True, kw_only=True)
class Beam:
    """The run of Beam pipelines."""

    engine: EngineName = "local"
    """Where they run; `bnpipe doctor --engine` tries it. All but `local` need what follows."""
    prism: Prism = Prism()
    """Settings of the engine prism."""
    flink: Flink = Flink()
    """Settings of the engine flink."""
    spark: Spark = Spark()
    """Settings of the engine spark."""
    dataflow: Dataflow = Dataflow()
    """Settings of the engine dataflow."""
    options: tuple[str, ...] = ()
    """Further Beam flags, as after `--` on the command line, e.g. ["--direct_num_workers=2"]."""

    @property
    def chosen(self) -> Prism | Flink | Spark | Dataflow | None:
        """The settings of the engine; None for `local`."""
        return None if self.engine == "local" else getattr(self, self.engine)

    def require(self) -> None:
        """Make sure that everything is named that the engine cannot do without.

        Raises:
            RequestError: something is not, or is not what it was said to be.
        """
        settings, key = self.chosen, f"beam.{self.engine}"
        needed = {"master", "job_server", *(vars(settings) if self.engine == "dataflow" else ())}
        for name, value in vars(settings).items() if settings else ():
            if name in needed and value is None:
                is_spark = (self.engine, name) == ("spark", "master")
                example = "spark://HOST:7077" if is_spark else _EXAMPLES[name]
                hint = f"e.g. --set {key}.{name}={example}"
                if name == "job_server":
                    hint += f"; nothing is downloaded, {_WHERE}"
                raise RequestError(f"{key}.{name}: the engine {self.engine} needs it", hint=hint)
        if isinstance(settings, Prism | Flink | Spark):
            environment_flags(key, settings.environment)
        if isinstance(settings, Flink) and not is_address(settings.master or ""):
            raise RequestError(f"{key}.master: expected HOST:PORT, received {settings.master}")
        if isinstance(settings, Spark) and not (
            (settings.master or "").startswith("spark://")
            and all(map(is_address, settings.masters))
        ):
            raise RequestError(
                f"{key}.master: expected spark://HOST:PORT, received {settings.master}"
            )

    def require_server(self) -> None:
        """Make sure that a job server which is a file is there, and the one that is meant.

        Raises:
            RequestError: it is not.
        """
        settings = self.chosen
        if isinstance(settings, Prism | Flink | Spark) and not is_address(
            settings.job_server or ""
        ):
            key = f"beam.{self.engine}.job_server"
            _check_file(key, settings.job_server, settings.job_server_sha256)

    def flags(self, endpoint: str = "", parallelism: int = 1, workers: int = 1) -> list[str]:
        """The flags of the engine; none for `local`.

        Args:
            endpoint: address of the job server.
            parallelism: slots to use, on Flink.
            workers: worker processes on each of its machines.
        """
        match self.chosen:
            case None:
                return []
            case Dataflow() as dataflow:
                names = {**vars(dataflow), "sdk_container_image": dataflow.image}
                del names["image"]
                return ["--runner=DataflowRunner", *(f"--{n}={v}" for n, v in names.items())]
            case settings:
                flags = [f"--job_endpoint={endpoint}", *_NO_FILES]
                flags += environment_flags(f"beam.{self.engine}", settings.environment)
        if isinstance(settings, Flink | Spark):  # else every stage imports TensorFlow again
            flags.append("--environment_cache_millis=600000")
        if isinstance(settings, Flink):
            return [
                "--runner=FlinkRunner",
                *flags,
                f"--flink_master={settings.master}",
                f"--flink_version={settings.version}",
                f"--parallelism={parallelism}",
                f"--sdk_worker_parallelism={workers}",
            ]
        return ["--runner=PortableRunner", *flags]


# Beam would send a list of what is installed here, which workers elsewhere cannot always fetch.
_NO_FILES = ("--experiments=disable_logging_submission_environment",)
# Spark's driver is in the job server; its scripts, which are not used here, open these for it.
_OPENED = (
    *("java.io", "java.lang", "java.lang.invoke", "java.lang.reflect", "java.net", "java.nio"),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
_CORES = ("spark.cores.max", "spark.default.parallelism")
_EXAMPLES = {
    "master": "HOST:8081",
    "job_server": "FILE",
    "project": "NAME",
    "region": "europe-west1",
    "temp_location": "gs://BUCKET/PATH",
    "image": "IMAGE",
}


def is_address(text: str) -> bool:
    """True for HOST:PORT."""
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isdecimal() and "/" not in host)


def environment_flags(key: str, environment: str) -> list[str]:
    """The flags of a worker environment.

    Raises:
        RequestError: there is no such kind, or it says too little.
    """
    kind, _, value = environment.partition(":")
    if kind == "loopback" and not value:
        return ["--environment_type=LOOPBACK"]
    if (kind == "external" and is_address(value)) or (kind in ("docker", "process") and value):
        config = json_text({"command": value}) if kind == "process" else value
        return [f"--environment_type={kind.upper()}", f"--environment_config={config}"]
    raise RequestError(
        f"{key}.environment: expected external:HOST:PORT, docker:IMAGE, process:COMMAND or "
        f"loopback, received {environment!r}"
    )


def _check_file(key: str, path: str | None, sha256: str | None) -> None:
    file = Path(path or "").expanduser()
    if not file.is_file():
        raise RequestError(f"{key}: expected a file or HOST:PORT, received {path}", hint=_WHERE)
    if sha256 is not None:
        with file.open("rb") as content:
            received = hashlib.file_digest(content, "sha256").hexdigest()
        if received != sha256.lower():
            raise RequestError(f"{key}: expected sha256 {sha256}, {file} has {received}")


def command(beam: Beam, ports: Sequence[int], folder: Path) -> list[str]:
    """The command line of an engine's job server.

    Args:
        beam: whose engine has a file as job server.
        ports: four free ports of this machine: of jobs, files, expansion and Spark's pages.
        folder: for what it keeps while it runs.
    """
    settings = beam.chosen
    assert isinstance(settings, Prism | Flink | Spark)
    server = str(Path(settings.job_server or "").expanduser())
    if isinstance(settings, Prism):
        return [server, f"--job_port={ports[0]}", "--serve_http=false"]
    kind = "--flink-master" if isinstance(settings, Flink) else "--spark-master-url"
    java = ["java"]
    if isinstance(settings, Spark):
        java += [f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in _OPENED]
        java += ["-Dspark.ui.enabled=true", f"-Dspark.ui.port={ports[3]}"]
        if settings.parallelism:
            java += [f"-D{name}={settings.parallelism}" for name in _CORES]
            java += ["-Dspark.scheduler.minRegisteredResourcesRatio=1"]
    names = ("--job-port", "--artifact-port", "--expansion-port")
    listening = [word for pair in zip(names, map(str, ports), strict=False) for word in pair]
    return [
        *(*java, "-jar", server, "--job-host", "localhost", *listening),
        *("--artifacts-dir", str(folder), kind, settings.master or ""),
    ]
