"""Beam's job server as a process of ours: started for a run, ended with it, however that ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bnpipe.data.engines.errors import EngineError

_START_SECONDS = 300.0
"""While its process lives: on a busy machine Java alone has taken a minute to begin."""


@contextmanager
def job_server(
    command: Callable[[Sequence[int], Path], list[str]], log: Path
) -> Iterator[Sequence[int]]:
    """Runs a job server as long as the `with` block.

    Args:
        command: its command line, given four free ports, the first one that of jobs, and a folder.
        log: the file for what it prints.

    Yields:
        its ports on this machine.

    Raises:
        EngineError: it cannot be started, or does not answer within five minutes.
    """
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(dir=log.parent, prefix="jobs-"))
        )
        ports = _free_ports()
        words = command(ports, folder)
        output = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "bnpipe.data.parent", str(os.getpid()), *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us; it is needed until the jobs are cancelled
        )
        stack.callback(_end, process)
        deadline = time.monotonic() + _START_SECONDS
        while (reason := unreachable(address := f"localhost:{ports[0]}")) is not None:
            code = process.poll()
            if code is not None or time.monotonic() > deadline:
                how = reason if code is None else f"it ended with exit code {code}"
                said = log.read_text(errors="replace").splitlines()
                lines = [line for line in said if line[:1].strip()]  # frames are indented
                named = [word for word in words if word[0] != "-"][:2]
                raise EngineError(
                    f"the job server {' '.join(named)} does not answer at {address}: {how}; it "
                    f"said last: {(lines or ['nothing'])[-1][:300]}"
                )
            time.sleep(0.1)
        yield ports


def unreachable(address: str) -> str | None:
    """The reason why nobody listens at HOST:PORT; None if somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports() -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [int(free.getsockname()[1]) for free in sockets]
