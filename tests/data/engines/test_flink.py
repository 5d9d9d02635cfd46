"""The JobManager is asked for jobs by name; one that is silent is named."""

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.flink import JobManager
from tests.data.engines.job_manager import Stub, job_manager


@pytest.fixture
def stub() -> Iterator[Stub]:
    with job_manager() as stub:
        yield stub


def test_only_living_jobs_of_that_name_are_cancelled(stub: Stub) -> None:
    stub.add("mine-1")
    stub.add("mine-2", "FINISHED")
    stub.add("other-1")
    assert JobManager(stub.address).cancel("mine-") == []
    assert stub.cancelled == ["mine-1"]


def test_what_goes_on_all_the_same_is_named_and_was_asked_once(stub: Stub) -> None:
    stub.add("mine-1")
    stub.deaf_to_cancel = True
    assert JobManager(stub.address).cancel("mine-", seconds=0.5) == ["mine-1"]
    assert stub.cancelled == ["mine-1"]


def test_activity_is_another_when_anything_was_read(stub: Stub) -> None:
    stub.add("mine-1")
    master = JobManager(stub.address)
    before = master.activity(stub.jobs[0])
    assert master.activity(stub.jobs[0]) == before
    stub.records += 1
    assert master.activity(stub.jobs[0]) != before


@pytest.mark.parametrize("answer", [[1], None, {"flink-version": "1.19.0"}])
def test_something_else_that_answers_is_told_as_such(stub: Stub, answer: Any) -> None:
    stub.overview = answer
    with pytest.raises(EngineError, match=f"{stub.address} is no JobManager"):
        JobManager(stub.address).overview()


def test_a_port_that_speaks_no_http_is_named() -> None:
    def speak(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"\0\0\0")

    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        thread = threading.Thread(target=speak, args=(server,))
        thread.start()
        with pytest.raises(EngineError, match=f"{address} does not answer"):
            JobManager(address).overview()
        thread.join()


def test_the_proxy_of_this_machine_is_not_asked(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert JobManager(stub.address).overview()["taskmanagers"] == 1


def test_a_silent_one_is_named_with_host_and_port_and_may_be_back() -> None:
    with job_manager() as stub:
        address = stub.address
    with pytest.raises(EngineError, match=rf"{address} does not answer: Connection refused") as it:
        JobManager(address).overview()
    assert it.value.may_pass
