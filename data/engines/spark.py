"""Spark's driver, which runs in the job server, asked over the REST interface of its pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bnpipe.data.engines.rest import get_json


@dataclass(frozen=True)
class Driver:
    """A driver whose pages are at an address, HOST:PORT, as long as it has a job."""

    address: str

    def look(self, name: str) -> tuple[str, Any]:
        """How far a job is, in words; and something that is another when it has done anything.

        Raises:
            EngineError: it has no job, or does not answer.
        """
        path, who = "api/v1/applications", f"Spark's driver at {self.address}"
        for found in get_json(who, self.address, path):
            if found["name"].startswith(name):
                stages = get_json(who, self.address, f"{path}/{found['id']}/stages")
                counts = [
                    (s["stageId"], s["status"], s["numCompleteTasks"], s["numFailedTasks"])
                    for s in stages
                ]
                done, total = (sum(s[n] for s in stages) for n in ("numCompleteTasks", "numTasks"))
                return f"{done} of {total} tasks done", counts
        return "submitting the job", None
