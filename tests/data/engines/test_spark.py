"""Spark's driver is asked for a job by name: how far it is, and whether it does anything."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bnpipe.data.engines.errors import EngineError
from bnpipe.data.engines.spark import Driver

# In the form of Spark 3.5's answers.
STAGES = [
    {"stageId": 1, "status": "ACTIVE", "numTasks": 4, "numCompleteTasks": 1, "numFailedTasks": 0},
    {"stageId": 0, "status": "COMPLETE", "numTasks": 2, "numCompleteTasks": 2, "numFailedTasks": 0},
]


@pytest.fixture
def answers() -> Iterator[dict[str, Any]]:
    """What a driver answers, by path; and its `address`."""
    answers: dict[str, Any] = {
        "/api/v1/applications": [{"id": "app-1", "name": "mine_1234"}],
        "/api/v1/applications/app-1/stages": STAGES,
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answers[self.path]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield answers | {"address": f"127.0.0.1:{server.server_port}"}
        server.shutdown()
        thread.join()


def test_a_job_that_ends_tasks_is_at_work(answers: dict[str, Any]) -> None:
    driver = Driver(answers["address"])
    note, before = driver.look("mine")
    assert note == "3 of 6 tasks done"
    assert driver.look("mine")[1] == before
    answers["/api/v1/applications/app-1/stages"][0]["numCompleteTasks"] += 1
    assert driver.look("mine")[1] != before


def test_the_job_of_others_is_not_looked_at(answers: dict[str, Any]) -> None:
    assert Driver(answers["address"]).look("other") == ("submitting the job", None)


def test_a_driver_without_a_job_does_not_answer() -> None:
    with pytest.raises(EngineError, match=r"Spark's driver at 127.0.0.1:9 does not answer"):
        Driver("127.0.0.1:9").look("mine")
