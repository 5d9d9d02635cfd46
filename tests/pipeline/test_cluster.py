"""What a run asks of an engine before it relies on it; the small job runs in this process here."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.settings import Beam, Flink, Prism, Spark
from bnpipe.data.records.shards import code_here
from bnpipe.pipeline import cluster
from bnpipe.pipeline.cluster import Check, Cluster, started
from tests.child import WITH_TESTS, environment
from tests.data.engines.job_manager import Stub, job_manager
from tests.data.engines.job_service import JobServiceStub, job_service


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A JobManager, and Beam pipelines that run here all the same."""
    monkeypatch.setattr(Beam, "flags", lambda *_: [])
    with job_manager() as stub:
        yield stub


@pytest.fixture
def service() -> Iterator[JobServiceStub]:
    with job_service() as stub:
        yield stub


@pytest.fixture
def server(service: JobServiceStub) -> str:
    return service.address


def flink(stub: Stub, server: str, **settings: Any) -> Beam:
    named = Flink(master=stub.address, job_server=server, **settings)
    return Beam(engine="flink", flink=named)


def checks(beam: Beam, home: Path) -> dict[str, Check]:
    with Cluster(beam, (), home, home / "log", "bnpipe-test-") as examined:
        return {check.name: check for check in examined.checks()}


def test_everything_is_tried_and_nothing_is_left_in_the_home(
    stub: Stub, server: str, tmp_path: Path
) -> None:
    found = checks(flink(stub, server), tmp_path)
    assert list(found) == [
        *("engine", "slots", "restarts", "job server"),
        *("workers", "worker code", "home", "locks"),
    ]
    assert all(check.ok for check in found.values()), found
    assert not list((tmp_path / "tmp").iterdir())


def test_missing_restarts_are_said_and_no_obstacle(stub: Stub, server: str, tmp_path: Path) -> None:
    stub.configuration = {}
    missing = checks(flink(stub, server), tmp_path)["restarts"]
    assert not missing.ok
    assert not missing.needed
    assert "restart-strategy.type: fixed-delay" in missing.hint


@pytest.mark.parametrize(
    ("settings", "name"), [({"version": "1.20"}, "engine"), ({"parallelism": 3}, "slots")]
)
def test_nothing_is_tried_behind_what_is_missing(
    stub: Stub, server: str, tmp_path: Path, settings: dict[str, Any], name: str
) -> None:
    *good, last = checks(flink(stub, server, **settings), tmp_path).values()
    assert all(check.ok for check in good)
    assert (last.name, last.ok) == (name, False)


def test_slots_that_are_busy_are_waited_for(
    stub: Stub, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.time, "sleep", lambda _: stub.overview.update(free))
    free = {"slots-available": 2}
    stub.overview["slots-available"] = 0
    assert checks(flink(stub, server, parallelism=2), tmp_path)["slots"].ok


_BLIND = """
import pathlib, sys
from bnpipe.data.beam_probe import Look
from bnpipe.data.engines.settings import Beam
from tests.pipeline.test_cluster import checks, flink, job_manager

def fail(*_):
    raise ModuleNotFoundError("No module named bnpipe")
    yield

Look.process, Beam.flags = fail, lambda *_: []
with job_manager() as stub:
    print(checks(flink(stub, sys.argv[1]), pathlib.Path(sys.argv[2]))["workers"].sentence)
"""


def test_what_beam_says_of_a_failed_job_is_not_on_the_terminal(server: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BLIND, server, str(tmp_path)],
        env=environment(**WITH_TESTS),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()
    assert "No module named bnpipe" in line
    assert "Traceback" in (tmp_path / "log").read_text()


def worker(**changes: str) -> dict[str, Any]:
    return {"host": "a", "process": 1, "code": code_here(), "home": "locks"} | changes


@pytest.mark.parametrize(
    ("told", "name", "sentence", "needed"),
    [
        ([], "workers", "0 processes on no host", True),
        ([worker(code="code 123")], "worker code", "the Beam worker on a has other code", True),
        ([worker(home="No such file")], "home", "the worker on a does not see", True),
        ([worker(home="another folder")], "home", "another folder", True),
        ([worker(host="b")], "home", "what the worker on b writes in .* is not seen here", True),
        ([worker(home="no locks")], "locks", "not seen on a: no second run there", False),
    ],
)
def test_what_is_wrong_with_workers_is_one_line_with_the_host(
    told: list[dict[str, Any]], name: str, sentence: str, needed: bool, tmp_path: Path
) -> None:
    wrong = [c for c in cluster._judge(told, {"a-1"}, tmp_path, 1) if not c.ok]
    assert [(check.name, check.needed) for check in wrong] == [(name, needed)]
    assert re.search(sentence, wrong[0].sentence)


def begun(beam: Beam, home: Path, dead: frozenset[str] = frozenset()) -> Any:
    run = home / "runs" / "0007"
    run.mkdir(parents=True, exist_ok=True)
    return started(beam, (), home, run, dead.__contains__, lambda note: None)


def test_a_run_does_not_begin_without_what_it_needs(
    stub: Stub, server: str, tmp_path: Path
) -> None:
    few = r"flink, slots: 2 of 2 .*, 3 needed"
    beam = flink(stub, server, parallelism=3)
    with pytest.raises(EngineError, match=few) as caught, begun(beam, tmp_path):
        pass
    assert "beam.flink.parallelism" in caught.value.hint


def test_at_its_end_a_run_cancels_what_is_left_of_it(
    stub: Stub, server: str, tmp_path: Path
) -> None:
    with begun(flink(stub, server), tmp_path) as jobs:
        stub.add(f"{jobs.prefix}abc")
        stub.add("bnpipe-0007-other-abc")
    assert stub.cancelled == [f"{jobs.prefix}abc"]


def test_a_job_that_is_being_submitted_when_the_run_ends_is_waited_for_and_cancelled(
    stub: Stub, service: JobServiceStub, tmp_path: Path
) -> None:
    run, notes = tmp_path / "runs" / "0007", []
    run.mkdir(parents=True)

    def tell(note: str) -> None:
        if note.startswith("waiting for a job"):
            notes.append(note)
            stub.add(*service.states)

    with started(flink(stub, service.address), (), tmp_path, run, bool, tell) as jobs:
        service.states = {f"{jobs.prefix}abc": "RUNNING"}
    assert stub.cancelled == [f"{jobs.prefix}abc"]
    assert notes == [
        f"waiting for a job that {service.address} submits to Flink at {stub.address}, to end it"
    ]


def test_what_is_left_at_a_job_server_of_others_is_cancelled_there(
    service: JobServiceStub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Beam, "flags", lambda *_: [])
    beam = Beam(engine="prism", prism=Prism(job_server=service.address))
    with begun(beam, tmp_path) as jobs:
        service.states = {f"{jobs.prefix}abc": "RUNNING", "other": "RUNNING"}
    assert service.cancelled == [f"{jobs.prefix}abc"]


def test_a_master_of_spark_that_is_silent_is_named_before_a_job_server_is_started(
    tmp_path: Path,
) -> None:
    spark = Spark(master="spark://127.0.0.1:9,127.0.0.1:7", job_server="none.jar")
    (check,) = checks(Beam(engine="spark", spark=spark), tmp_path).values()
    assert not check.ok
    assert "at 127.0.0.1:9: Connection refused, at 127.0.0.1:7: Connection ref" in check.sentence


def test_runs_of_a_home_take_turns_at_a_job_server_for_spark_that_others_started(
    stub: Stub, server: str, tmp_path: Path
) -> None:
    spark = Spark(master="spark://127.0.0.1:9", job_server=server)
    turns = []
    for run in ("0005", "0006"):
        at = tmp_path / "home", tmp_path / f"{run}.log", f"bnpipe-{run}-"
        with Cluster(Beam(engine="spark", spark=spark), (), *at) as examined:
            assert all(check.ok for check in examined.checks() if check.needed)
            assert examined.jobs is not None
            turns.append(examined.jobs.turn)
    assert turns[0] == turns[1]
    assert turns[0] is not None
    assert turns[0].is_relative_to(tmp_path / "home" / "locks")


def test_jobs_of_dead_runs_are_ended_and_those_of_living_ones_are_not(
    stub: Stub, server: str, tmp_path: Path
) -> None:
    for run in ("0005", "0006"):
        (tmp_path / "runs" / run).mkdir(parents=True)
        record = {"jobs": f"bnpipe-{run}-abc-"}
        (tmp_path / "runs" / run / cluster.RECORD).write_text(json.dumps(record))
        stub.add(f"bnpipe-{run}-abc-1")
    with begun(flink(stub, server), tmp_path, frozenset({"0005"})):
        assert stub.cancelled == ["bnpipe-0005-abc-1"]
