"""The REST port: plain HTTP/1.1 with connections that stay open."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from typing import Any

from bnpipe.serving.local.api import Reply, RestApi

_IDLE_SECONDS = 300
_MOST_DIGITS = 9  # of a body's length: under a gigabyte


class RestServer:
    """Serves the REST API on a thread per connection.

    Args:
        api: answers requests.
        host: the address to listen on.
        port: the port; 0 for any free one.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, api: RestApi, host: str, port: int) -> None:
        self._server = _Server((host, port), api)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="rest", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_address[1])

    def stop(self, grace: float) -> None:
        """Accept nothing new, and wait for requests in flight, at most `grace` seconds."""
        self._server.stopping = True
        self._server.shutdown()
        deadline = time.monotonic() + grace
        with self._server.changed:
            while self._server.active and time.monotonic() < deadline:
                self._server.changed.wait(deadline - time.monotonic())
            self._server.stopped = True
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: RestApi) -> None:
        self.api = api
        self.active = 0
        self.changed = threading.Condition()
        self.stopping = False  # answers are the last ones of their connections
        self.stopped = False  # there are no more answers
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # An answer goes out at once instead of waiting for the client to acknowledge the headers.
    disable_nagle_algorithm = True
    timeout = _IDLE_SECONDS

    def _answer(self) -> None:
        with self.server.changed:
            if self.server.stopped:
                self.close_connection = True
                return
            self.server.active += 1
        try:
            body = self._body()
            if body is None:
                self.close_connection = True
                self._send(Reply(400))
                return
            headers = {name.title(): value for name, value in self.headers.items()}
            self._send(self.server.api.answer(self.command, self.path, headers, body))
        finally:
            with self.server.changed:
                self.server.active -= 1
                self.server.changed.notify_all()

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PATCH = _answer  # noqa: N815

    def _body(self) -> bytes | None:
        """The request's body; None if its length makes no sense."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or len(length) > _MOST_DIGITS:
            return None
        return self.rfile.read(int(length))

    def _chunks(self) -> bytes | None:
        body = bytearray()
        while True:
            try:
                size = int(self.rfile.readline().split(b";")[0], 16)
            except ValueError:
                return None
            if size < 0:
                return None
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return bytes(body)

    def _send(self, reply: Reply) -> None:
        if self.server.stopping:
            self.close_connection = True
        self.send_response_only(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.send_header("Date", self.date_time_string())
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
