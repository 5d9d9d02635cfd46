"""A job server is asked for jobs by name; one that is silent is named."""

from collections.abc import Iterator

import pytest

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.job_service import JobService
from tests.data.engines.job_service import JobServiceStub, job_service


@pytest.fixture(params=["java", "prism"])
def stub(request: pytest.FixtureRequest) -> Iterator[JobServiceStub]:
    with job_service() as stub:
        stub.is_prism = request.param == "prism"
        yield stub


def test_only_living_jobs_of_that_name_are_cancelled(stub: JobServiceStub) -> None:
    stub.states = {"mine-1": "RUNNING", "mine-2": "DONE", "other-1": "RUNNING"}
    assert JobService(stub.address).cancel("mine-") == []
    assert stub.cancelled == ["mine-1"]


def test_a_job_that_counts_is_at_work(stub: JobServiceStub) -> None:
    service = JobService(stub.address)
    assert service.look("mine") == ("submitting the job", None)
    stub.states = {"mine": "RUNNING"}
    note, before = service.look("mine")
    assert note == "running"
    assert service.look("mine")[1] == before
    stub.counted += 1
    assert service.look("mine")[1] != before


def test_a_server_that_has_done_thousands_of_jobs_is_asked_too(stub: JobServiceStub) -> None:
    stub.states = {f"done-{n}-{'x' * 500}": "DONE" for n in range(10_000)} | {"mine": "RUNNING"}
    assert [job["name"] for job in JobService(stub.address).living()] == ["mine"]


def test_a_silent_one_is_named_with_host_and_port_and_may_be_back() -> None:
    with job_service() as stub:
        address = stub.address
    with pytest.raises(EngineError, match=f"job server at {address} does not answer: Conn") as it:
        JobService(address).living()
    assert it.value.may_pass


def test_what_is_no_job_server_is_told_as_such() -> None:
    from tests.data.engines.job_manager import job_manager

    with job_manager() as other, pytest.raises(EngineError, match=f"{other.address} does not answ"):
        JobService(other.address).living()
