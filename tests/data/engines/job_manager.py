"""A stand-in for Flink's JobManager over REST: what it is asked is what tests put into it.

Its answers have the form of Flink 1.19's; how the real one behaves is in tests/integration.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stub:
    """The state of the JobManager."""

    def __init__(self) -> None:
        self.address = ""
        self.jobs: list[dict[str, Any]] = []
        self.overview: dict[str, Any] = {
            "flink-version": "1.19.0",
            "taskmanagers": 1,
            "slots-total": 2,
            "slots-available": 2,
        }
        self.configuration = {"restart-strategy.type": "fixed-delay"}
        self.cancelled: list[str] = []
        self.deaf_to_cancel = False
        self.records = 0
        self.failed_on = "10.0.0.1:1234"

    def add(self, name: str, state: str = "RUNNING") -> None:
        """A job."""
        tasks = {"total": 4, "finished": 1, "running": 3}
        self.jobs.append({"jid": str(len(self.jobs)), "name": name, "state": state, "tasks": tasks})

    def answer(self, method: str, path: str) -> Any:
        """The answer to a request."""
        words = path.strip("/").split("?")[0].split("/")
        match words:
            case ["overview"]:
                return self.overview
            case ["jobmanager", "config"]:
                return [{"key": k, "value": v} for k, v in self.configuration.items()]
            case ["jobs", "overview"]:
                return {"jobs": self.jobs}
            case ["jobs", number, "exceptions"]:
                return {"exceptionHistory": {"entries": [{"endpoint": self.failed_on}]}}
            case ["jobs", number] if method == "PATCH":
                assert path.endswith("?mode=cancel")
                self.cancelled.append(self.jobs[int(number)]["name"])
                if not self.deaf_to_cancel:
                    self.jobs[int(number)]["state"] = "CANCELED"
                return {}
            case ["jobs", _]:
                metrics = {"read-records": self.records, "write-records": self.records}
                return {"vertices": [{"status": "RUNNING", "metrics": metrics}]}
        raise AssertionError(path)


@contextmanager
def job_manager() -> Iterator[Stub]:
    """A JobManager on this machine."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(stub.answer(self.command, self.path)).encode()
            self.send_response(202 if self.command == "PATCH" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
