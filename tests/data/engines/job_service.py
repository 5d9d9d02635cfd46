"""A stand-in for the job service of Beam's job servers: its jobs are what tests put into it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc, metrics_pb2


class JobServiceStub(beam_job_api_pb2_grpc.JobServiceServicer):
    """The state of the service."""

    def __init__(self) -> None:
        self.address = ""
        self.is_prism = False
        self.states: dict[str, str] = {}
        self.counted = self.looks = 0
        self.cancelled: list[str] = []

    def GetJobs(self, request: Any, context: Any) -> Any:  # noqa: N802 - Beam's names, as below
        """All jobs, also those that are over."""
        states = {name: api.JobState.Enum.Value(state) for name, state in self.states.items()}
        jobs = [api.JobInfo(job_id=f"id {n}", job_name=n, state=s) for n, s in states.items()]
        for job in jobs if self.is_prism else ():
            job.pipeline_options["beam:option:job_name:v1"] = job.job_name
            job.job_name = "job"
        return api.GetJobsResponse(job_info=jobs)

    def GetJobMetrics(self, request: Any, context: Any) -> Any:  # noqa: N802
        """One count, and how long it has been at work, which is more at every look."""
        self.looks += 1
        labels = {f"label {n}": str(n) for n in range(20)}
        counts = [
            metrics_pb2.MonitoringInfo(urn=urn, payload=bytes([number]), labels=labels)
            for urn, number in (
                ("beam:metric:element_count:v1", self.counted),
                ("beam:metric:pardo_execution_time:process_bundle_msecs:v1", self.looks),
            )
        ]
        return api.GetJobMetricsResponse(metrics=api.MetricResults(attempted=counts))

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends a job at once."""
        name = request.job_id.removeprefix("id ")
        self.cancelled.append(name)
        self.states[name] = "CANCELLED"
        return api.CancelJobResponse(state=api.JobState.CANCELLED)


@contextmanager
def job_service() -> Iterator[JobServiceStub]:
    """A job service on this machine."""
    stub, server = JobServiceStub(), grpc.server(ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(stub, server)
    stub.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield stub
    finally:
        server.stop(None).wait()
