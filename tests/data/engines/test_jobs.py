"""Jobs have names, are watched, and end in one line; here they run in this process."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest

from bnpipe.data.engines import jobs
from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.flink import JobManager
from bnpipe.data.engines.jobs import Jobs
from bnpipe.data.errors import DataError
from tests.data.engines.job_manager import Stub, job_manager
from tests.data.engines.job_service import job_service
from tests.waiting import wait_for


@pytest.fixture
def stub() -> Iterator[Stub]:
    with job_manager() as stub:
        yield stub


def of(stub: Stub, **limits: float) -> Jobs:
    return replace(Jobs("flink", (), "bnpipe-1-", master=JobManager(stub.address)), **limits)


def fail(_: int) -> int:
    raise ZeroDivisionError("division by zero")


def test_an_error_of_a_worker_is_one_line_with_the_place_and_no_second_try(stub: Stub) -> None:
    stub.add("bnpipe-1-x", "FAILED")
    with pytest.raises(EngineError) as caught, of(stub)() as pipeline:
        _ = pipeline | beam.Create([1]) | beam.Map(fail)
    assert caught.value.headline.startswith(f"the Beam job on Flink at {stub.address} failed")
    assert "division by zero" in caught.value.headline
    assert not caught.value.may_pass


def test_what_goes_wrong_before_there_is_a_job_stays_what_it_is(stub: Stub) -> None:
    for error in (DataError("no shard"), ZeroDivisionError("a bug")):
        with pytest.raises(type(error)) as caught, of(stub)():
            raise error
        assert caught.value is error


def test_a_lost_jobmanager_is_told_instead_of_what_beam_makes_of_it() -> None:
    with job_manager() as stub:
        gone = of(stub)
    with pytest.raises(EngineError, match=r"JobManager at .* does not answer") as it, gone() as p:
        _ = p | beam.Create([1]) | beam.Map(fail)
    assert it.value.may_pass


class Until(beam.DoFn):
    """Works until the job is cancelled, then fails as a cancelled one does."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub

    def __reduce__(self) -> "tuple[object, ...]":
        return (_the_one, ())

    def process(self, _: int) -> Iterator[int]:
        while not self._stub.cancelled:
            time.sleep(0.01)
        raise RuntimeError("CANCELLED")
        yield 0


_WATCHED: list[Until] = []


def _the_one() -> Until:
    return _WATCHED[0]


def test_a_job_without_a_sign_of_life_is_cancelled_and_says_where_it_stood(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(jobs.uuid, "uuid4", lambda: type("Id", (), {"hex": "0" * 12}))
    stub.add("bnpipe-1-000000000000")
    _WATCHED[:] = [Until(stub)]
    notes: list[str] = []
    opened = of(stub, stalled_seconds=0.3)(lambda *how: notes.append(how[2]))
    silent = r"it read and wrote nothing for 0 s \(running, 1 of 4"
    with pytest.raises(EngineError, match=silent), opened as pipeline:
        _ = pipeline | beam.Create([1]) | beam.ParDo(_WATCHED[0])
    assert stub.cancelled == ["bnpipe-1-000000000000"]
    assert notes[-1] == f"Flink at {stub.address}: running, 1 of 4 tasks done"


def test_a_job_server_that_is_gone_is_named_at_once(stub: Stub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    gone = replace(of(stub), endpoint=address)
    silent = f"job server at {address} for Flink at .* refused"
    with pytest.raises(EngineError, match=silent) as it, gone():
        raise AssertionError("there is no job server")
    assert it.value.may_pass


def test_nobody_waits_for_what_does_not_end_when_it_is_cancelled(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "_LEAVE_SECONDS", 0.01)
    over = threading.Event()
    opened = of(stub, stalled_seconds=0.1)()
    try:
        with pytest.raises(EngineError, match="it read and wrote nothing"), opened as pipeline:
            pipeline.run = over.wait  # as Beam does with a job server that accepts and is silent
    finally:
        over.set()


def test_what_a_job_tells_of_itself_ends_with_it(stub: Stub) -> None:
    notes: list[str] = []
    with of(stub)(lambda *how: notes.append(how[2])) as pipeline:
        _ = pipeline | beam.Create([1])
    told = len(notes)
    assert not [t for t in threading.enumerate() if "_look" in t.name]
    assert len(notes) == told


def test_where_one_job_runs_at_a_time_another_waits_and_says_so(stub: Stub, tmp_path: Path) -> None:
    one_at_a_time = replace(of(stub), turn=tmp_path / "turn")
    began, notes = threading.Event(), []

    def second() -> None:
        with one_at_a_time(lambda *how: notes.append(how[2])) as pipeline:
            began.set()
            _ = pipeline | beam.Create([1])

    thread = threading.Thread(target=second)
    with one_at_a_time() as pipeline:
        thread.start()
        wait_for(lambda: notes)
        _ = pipeline | beam.Create([1])
        assert not began.is_set()
    thread.join()
    assert began.is_set()
    assert notes[0] == f"Flink at {stub.address}: waiting for another step's job"


def test_a_job_that_counts_nothing_more_is_given_up_without_a_jobmanager_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(jobs, "_LEAVE_SECONDS", 0.01)
    with job_service() as service:
        prism = Jobs("prism", (), "bnpipe-1-", service.address, stalled_seconds=0.3)
        over = threading.Event()

        def run() -> None:
            service.states = dict.fromkeys(names, "RUNNING")
            over.wait()

        silent = pytest.raises(EngineError, match=r"wrote nothing for 0 s \(running\)")
        with silent, prism() as pipeline:
            names = [pipeline.options.get_all_options()["job_name"]]
            pipeline.run = run
        over.set()
        assert service.cancelled == names
