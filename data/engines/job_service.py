"""Beam's job service, which every job server offers: asked for jobs by name, and to end them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.job_server import unreachable
from bnpipe.data.engines.rest import end_all

_OVER = {"DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"}
_NAME = "beam:option:job_name:v1"  # Prism calls every job `job`
# A server that has done a thousand jobs tells of them all.
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))


@dataclass(frozen=True)
class JobService:
    """The job service at an address, HOST:PORT; all raise EngineError if it does not answer."""

    address: str

    def living(self, prefix: str = "") -> list[dict[str, str]]:
        """The jobs whose name begins so that are not over: each has `jid`, `name` and `state`."""
        from apache_beam.portability.api import beam_job_api_pb2 as api

        jobs = [
            {
                "jid": job.job_id,
                "name": job.pipeline_options.fields[_NAME].string_value or job.job_name,
                "state": api.JobState.Enum.Name(job.state),
            }
            for job in self._ask("GetJobs", api.GetJobsRequest()).job_info
        ]
        return [j for j in jobs if j["name"].startswith(prefix) and j["state"] not in _OVER]

    def look(self, name: str) -> tuple[str, Any]:
        """How far a job is, in words; and something that is another when it has done anything."""
        from apache_beam.portability.api import beam_job_api_pb2 as api

        for job in self.living(name):
            metrics = self._ask("GetJobMetrics", api.GetJobMetricsRequest(job_id=job["jid"]))
            counts = [
                (count.urn, sorted(count.labels.items()), count.payload)
                for count in (*metrics.metrics.attempted, *metrics.metrics.committed)
                if not count.urn.endswith("msecs:v1")  # time passes also where nothing is done
            ]
            return job["state"].lower(), (job["state"], sorted(counts))
        return "submitting the job", None

    def cancel(self, prefix: str, seconds: float = 20.0) -> list[str]:
        """End the jobs whose name begins so, and wait until they have; returns those that have not.

        Args:
            prefix: the beginning of their names.
            seconds: how long to wait.
        """
        from apache_beam.portability.api import beam_job_api_pb2 as api

        def end(job: str) -> None:
            self._ask("Cancel", api.CancelJobRequest(job_id=job))

        return end_all(lambda: self.living(prefix), end, seconds)

    def _ask(self, method: str, request: Any) -> Any:
        import grpc
        from apache_beam.portability.api import beam_job_api_pb2_grpc as api

        reason = unreachable(self.address)
        try:
            if reason is None:
                with grpc.insecure_channel(self.address, options=_OPTIONS) as channel:
                    return getattr(api.JobServiceStub(channel), method)(request, timeout=10)
        except grpc.RpcError as error:
            reason = error.details()
        raise EngineError(
            f"the job server at {self.address} does not answer: {reason}", may_pass=True
        )
