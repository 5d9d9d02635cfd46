"""A server's process: started with its output in a file, ready or not, and always ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bnpipe.components.infra_validator import servers
from bnpipe.components.infra_validator.servers import MODEL, Server
from bnpipe.data.json_text import json_text
from bnpipe.serving.client.base import Options, ServerError
from bnpipe.serving.client.connect import connect
from bnpipe.serving.errors import ServingError

TAIL_LINES = 20
PORT_ATTEMPTS = 3
_POLL_SECONDS = 0.05
_STOP_SECONDS = 10.0
_START_FAILED = "Failed to start server. Error: "
_PORT_TAKEN = ("address already in use", "failed to buildandstart")


class Refused(Exception):
    """The model cannot be served, through its own fault."""


class PortTaken(Exception):
    """Somebody else was faster; other ports may be free."""


@dataclass(frozen=True)
class Addresses:
    """The addresses of a server: REST as a URL, gRPC as HOST:PORT."""

    rest: str
    grpc: str


class Process:
    """A server and, in a session of their own, all processes that it starts.

    Args:
        server: which.
        base: folder of the versions; None to start the stand-in before there is one.
    """

    def __init__(self, server: Server, base: Path | None) -> None:
        self._server, self._base = server, base
        rest, grpc = _free_ports()
        self._addresses = Addresses(f"http://127.0.0.1:{rest}", f"127.0.0.1:{grpc}")
        self._launch = servers.launch(server, base, rest, grpc)
        self._unread = b""
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._child = subprocess.Popen(
            self._launch.command,
            env=self._launch.environment,
            stdin=subprocess.DEVNULL if server.real else subprocess.PIPE,
            stdout=self._output if server.real else subprocess.PIPE,
            stderr=self._output,
            start_new_session=True,
        )
        if base is not None and not server.real:
            self.look_at(base)

    def look_at(self, base: Path) -> None:
        """Tell the stand-in its folder of versions."""
        self._base = base
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: who asks it will see
            self._child.stdin.write(f"{json_text(str(base))}\n".encode())
            self._child.stdin.close()

    def findings(self, deadline: float) -> list[dict[str, str]]:
        """The findings of the lint in the fresh process, each with its code and its sentence.

        Raises:
            ServingError: the process died, or is not ready in time.
        """
        while (line := self._line(deadline)) is not None:
            if line.startswith("["):  # a library may have written before
                return json.loads(line)
        raise self.fault("ended before it had looked at the model")

    def wait_until_serving(self, deadline: float) -> Addresses:
        """Its addresses, once it has loaded the model.

        Raises:
            Refused: the server says that the model cannot be loaded.
            PortTaken: another process has one of the ports.
            ServingError: it died, or is not ready in time.
        """
        return self._poll(deadline) if self._server.real else self._announced(deadline)

    @property
    def alive(self) -> bool:
        """False when the process is gone."""
        return self._child.poll() is None

    def check_alive(self) -> None:
        """Raises ServingError when the process is gone."""
        if not self.alive:
            raise self.fault("ended while it was asked")

    def tail(self) -> list[str]:
        """The last lines that it wrote."""
        # Not `read`: that would move the place at which the server writes on.
        output = self._output.fileno()
        text = os.pread(output, os.fstat(output).st_size, 0).decode(errors="replace")
        return [line for line in text.splitlines() if line.strip()][-TAIL_LINES:]

    def fault(self, what: str) -> ServingError:
        """An error that tells what happened to the server, and its last words."""
        code = self._child.poll()
        how = "" if code is None else f" ({_ending(code)})"
        said = (self.tail() or ["nothing"])[-1]
        return ServingError(
            f"{self._server.name} {what}{how}; it said last: {said[-300:]}",
            hint="read its last lines: bnpipe logs latest infra_validator",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it and all that it started, at once: nothing is in flight any more."""
        if self._launch.ending and self._child.poll() is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    self._launch.ending,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_STOP_SECONDS,
                )
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._output):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _announced(self, deadline: float) -> Addresses:
        """The stand-in chooses free ports itself and writes them."""
        while (line := self._line(deadline)) is not None:
            if line.startswith("serving "):
                words = dict(word.split("=", 1) for word in line.split()[1:])
                return Addresses(words["rest"], words["grpc"])
        raise self._not_started()

    def _poll(self, deadline: float) -> Addresses:
        with connect(self._addresses.rest, MODEL, Options(attempts=1)) as client:
            while self._child.poll() is None:
                if time.monotonic() > deadline:
                    raise self.fault("does not serve in time")
                # Its ports open when the model is loaded; until then nobody answers.
                with contextlib.suppress(ServerError):
                    if any(version.state == "AVAILABLE" for version in client.status()):
                        return self._addresses
                time.sleep(_POLL_SECONDS)
        raise self._not_started()

    def _not_started(self) -> Exception:
        self._child.wait()
        lines = self.tail()
        if any(text in line.lower() for line in lines for text in _PORT_TAKEN):
            return PortTaken()
        for line in lines:
            if "did not become available" in line and _START_FAILED in line:
                # The scratch folder's path says nothing.
                reason = line.partition(_START_FAILED)[2].replace(f"{self._base}/", "")
                return Refused(reason.strip().rstrip(","))
        return self.fault("ended before it served")

    def _line(self, deadline: float) -> str | None:
        """The next line that it wrote for us; None when there will be no more."""
        assert self._child.stdout is not None
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                raise self.fault("does not serve in time")
            read = os.read(self._child.stdout.fileno(), 1 << 16)
            if not read:
                self._child.wait()
                return None
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode(errors="replace")


@contextlib.contextmanager
def serving(server: Server, base: Path, deadline: float) -> Iterator[tuple[Process, Addresses]]:
    """A real server that serves, on other ports if somebody took the first ones.

    Raises:
        Refused: the model cannot be loaded.
        ServingError: the server does not start, or no port is free.
    """
    for _ in range(PORT_ATTEMPTS):
        with Process(server, base) as process:
            try:
                addresses = process.wait_until_serving(deadline)
            except PortTaken:
                continue
            yield process, addresses
            return
    raise ServingError(
        f"{server.name}: {PORT_ATTEMPTS} times in a row another process took its ports",
        hint="run again",
    )


def _free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
