"""The settings of engines: what is missing is said, what is there becomes flags that Beam knows."""

import hashlib
from pathlib import Path

import pytest

from bnpipe.data.beam_io import check_flags
from bnpipe.data.engines.settings import Beam, Dataflow, Flink, Prism, Spark, command
from bnpipe.data.errors import RequestError


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    path = tmp_path / "server.jar"
    path.write_bytes(b"jar")
    return path


@pytest.mark.parametrize(
    ("beam", "complaint"),
    [
        (Beam(engine="flink"), r"beam\.flink\.master.*--set beam\.flink\.master=HOST:8081"),
        (Beam(engine="flink", flink=Flink(master="a:1")), r"beam\.flink\.job_server: .*downloaded"),
        (Beam(engine="spark"), r"beam\.spark\.master.*=spark://HOST:7077"),
        (Beam(engine="spark", spark=Spark(master="spark://a:1")), r"beam\.spark\.job_server"),
        (Beam(engine="spark", spark=Spark(master="a:1", job_server="a:1")), "spark://HOST:PORT"),
        (Beam(engine="prism"), r"beam\.prism\.job_server.*=FILE"),
        (Beam(engine="dataflow", dataflow=Dataflow(project="p")), r"beam\.dataflow\.region"),
        (Beam(engine="flink", flink=Flink(master="a", job_server="a:1")), "expected HOST:PORT"),
    ],
)
def test_what_an_engine_needs_is_named_with_its_key(beam: Beam, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint) as caught:
        beam.require()
    assert "\n" not in str(caught.value)


def test_what_other_engines_need_is_nobodys_concern() -> None:
    Beam(prism=Prism(job_server="nothing"), flink=Flink(environment="odd")).require()


def test_a_job_server_that_is_another_file_or_none_is_refused(jar: Path) -> None:
    def require(file: str, sha256: str) -> None:
        prism = Prism(job_server=file, job_server_sha256=sha256)
        Beam(engine="prism", prism=prism).require_server()

    right = hashlib.sha256(b"jar").hexdigest()
    require(str(jar), right)
    with pytest.raises(RequestError, match=rf"job_server: expected sha256 00, .* has {right}"):
        require(str(jar), "00")
    with pytest.raises(RequestError, match="expected a file or HOST:PORT, received nothing"):
        require("nothing", right)


@pytest.mark.parametrize("environment", ["external:", "external:host", "docker", "process:", "odd"])
def test_an_environment_that_says_too_little_is_refused(environment: str) -> None:
    beam = Beam(engine="prism", prism=Prism(job_server="a:1", environment=environment))
    with pytest.raises(RequestError, match=r"beam\.prism\.environment: expected external:HOST"):
        beam.require()


@pytest.mark.parametrize(
    ("environment", "flags"),
    [
        ("loopback", ["--environment_type=LOOPBACK"]),
        ("docker:a/b:1", ["--environment_type=DOCKER", "--environment_config=a/b:1"]),
        ("external:a:1", ["--environment_type=EXTERNAL", "--environment_config=a:1"]),
        (
            "process:/opt/boot",
            ["--environment_type=PROCESS", '--environment_config={"command": "/opt/boot"}'],
        ),
    ],
)
def test_environments_become_flags(environment: str, flags: list[str]) -> None:
    beam = Beam(engine="prism", prism=Prism(job_server="a:1", environment=environment))
    assert beam.flags("b:2")[-len(flags) :] == flags
    assert {"--runner=PortableRunner", "--job_endpoint=b:2"} <= set(beam.flags("b:2"))


@pytest.mark.parametrize(
    "beam",
    [
        Beam(engine="flink", flink=Flink(master="a:1", job_server="b:2")),
        Beam(engine="spark", spark=Spark(master="spark://a:1", job_server="b:2")),
        Beam(engine="prism", prism=Prism(job_server="b:2")),
    ],
)
def test_beam_takes_the_flags_as_they_are(beam: Beam) -> None:
    beam.require()
    flags = beam.flags("b:2", 4, 2)
    assert check_flags(flags) == flags


def test_a_server_that_is_a_file_gets_its_ports_and_its_master(jar: Path, tmp_path: Path) -> None:
    flink = Beam(engine="flink", flink=Flink(master="a:1", job_server=str(jar)))
    words = command(flink, [1, 2, 3, 4], tmp_path)
    assert words[:3] == ["java", "-jar", str(jar)]
    assert " --job-port 1 --artifact-port 2 --expansion-port 3 " in " ".join(words)
    assert words[-2:] == ["--flink-master", "a:1"]
    spark = Spark(master="spark://a:1", job_server=str(jar), parallelism=3)
    words = command(Beam(engine="spark", spark=spark), [1, 2, 3, 4], tmp_path)
    assert words.index("-Dspark.cores.max=3") < words.index("-jar")
    assert "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED" in words  # of Java 17 and later
    assert words[-2:] == ["--spark-master-url", "spark://a:1"]
    prism = Beam(engine="prism", prism=Prism(job_server=str(jar)))
    assert command(prism, [1, 2, 3, 4], tmp_path)[:2] == [str(jar), "--job_port=1"]
