"""The JobManager is asked for jobs by name; one that is silent is named."""

from collections.abc import Iterator

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


def test_a_silent_one_is_named_with_host_and_port_and_may_be_back() -> None:
    with job_manager() as stub:
        address = stub.address
    with pytest.raises(EngineError, match=rf"{address} does not answer: Connection refused") as it:
        JobManager(address).overview()
    assert it.value.may_pass
