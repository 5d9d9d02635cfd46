"""Commands that are at work in the background, and what can be seen of them from outside."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.child import environment
from tests.integration.conftest import Project
from tests.waiting import PATIENCE


@contextmanager
def process(project: Project, log: Path, *words: str) -> Iterator[int]:
    """A command at work; yields its process id. At the end it is told to stop, and has to."""
    with log.open("a") as file:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", "bnpipe.pipeline", *words],
            cwd=project.folder,
            env=environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise


def rss(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
