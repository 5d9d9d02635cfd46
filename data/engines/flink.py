"""Flink's JobManager, asked over REST: what it has, which jobs run, and to end them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.rest import end_all, get_json

_OVERVIEW = {"flink-version", "taskmanagers", "slots-total", "slots-available"}
_OVER = {"FINISHED", "CANCELED", "FAILED", "SUSPENDED"}


@dataclass(frozen=True)
class JobManager:
    """A JobManager at an address, HOST:PORT; all raise EngineError if it does not answer."""

    address: str

    def get(self, path: str, method: str = "GET") -> Any:
        """An answer of its REST interface.

        Raises:
            EngineError: it does not answer, or not so.
        """
        return get_json(f"Flink's JobManager at {self.address}", self.address, path, method)

    def overview(self) -> dict[str, Any]:
        """Its version, TaskManagers and slots, by Flink's names."""
        found = self.get("overview")
        if not (isinstance(found, dict) and found.keys() >= _OVERVIEW):
            raise EngineError(
                f"what answers at {self.address} is no JobManager of Flink",
                hint="its REST port is wanted, 8081 by default",
            )
        return found

    def configuration(self) -> dict[str, str]:
        """What it was configured with."""
        return {entry["key"]: entry["value"] for entry in self.get("jobmanager/config")}

    def jobs(self, prefix: str) -> list[dict[str, Any]]:
        """The jobs whose name begins so, in the words of its overview."""
        return [j for j in self.get("jobs/overview")["jobs"] if j["name"].startswith(prefix)]

    def living(self, prefix: str = "") -> list[dict[str, Any]]:
        """Those of them that are not over."""
        return [job for job in self.jobs(prefix) if job["state"] not in _OVER]

    def look(self, name: str) -> tuple[str, Any]:
        """How far a job is, in words; and something that is another when it has done anything."""
        for job in self.jobs(name):
            tasks, activity = job["tasks"], self.activity(job)
            done = f"{tasks['finished']} of {tasks['total']} tasks done"
            return f"{job['state'].lower()}, {done}", activity
        return "submitting the job", None

    def activity(self, job: Mapping[str, Any]) -> Any:
        """Something that is another whenever a job has read, written, begun or ended anything."""
        vertices = self.get(f"jobs/{job['jid']}")["vertices"]
        counted = ("read-bytes", "write-bytes", "read-records", "write-records")
        return job["state"], [
            (v["status"], *(v["metrics"].get(name) for name in counted)) for v in vertices
        ]

    def failed_on(self, name: str) -> str:
        """The host on which a job failed; empty where it is not known."""
        for job in self.jobs(name):
            history = self.get(f"jobs/{job['jid']}/exceptions").get("exceptionHistory", {})
            for entry in history.get("entries", []):
                if entry.get("endpoint"):
                    return str(entry["endpoint"])
        return ""

    def cancel(self, prefix: str, seconds: float = 20.0) -> list[str]:
        """End the jobs whose name begins so, and wait until they have; returns those that have not.

        Args:
            prefix: the beginning of their names.
            seconds: how long to wait.
        """

        def end(job: str) -> None:
            self.get(f"jobs/{job}?mode=cancel", "PATCH")

        return end_all(lambda: self.living(prefix), end, seconds)
