"""The nginx of the machine before a server, with the configuration that is rendered.

It runs as an ordinary process in a folder of its own and listens on loopback.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.child import environment
from tests.serving.model_server import Addresses
from tests.waiting import PATIENCE, wait_for

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
needs_nginx = pytest.mark.skipif(
    NGINX is None, reason="nginx is not on the PATH (Debian, Ubuntu: apt-get install nginx-light)"
)


@dataclass(frozen=True)
class Front:
    """Where nginx listens, and the folder of its log."""

    rest: str
    grpc: str
    traffic: Path


def configured(text: str, server: Addresses, folder: Path) -> tuple[Path, Front]:
    """A rendered configuration, with addresses and paths of this machine for those of compose."""
    (folder / "traffic").mkdir(parents=True, exist_ok=True)
    found = re.findall(r"server serving:(\d+) ", text)
    listening = [free_port() for _ in found]
    for port, own, url in zip(found, listening, (server.rest, server.grpc), strict=True):
        for old, new in (
            (f"server serving:{port} ", f"server {url.partition('//')[2]} "),
            (f"listen {port}", f"listen 127.0.0.1:{own}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
    text = text.replace("/traffic/", f"{folder}/traffic/")
    if os.geteuid() == 0:  # else workers would be `nobody`, who cannot enter the folder
        text = f"user root;\n{text}"
    path = folder / "nginx.conf"
    path.write_text(text)
    rest, grpc = (f"127.0.0.1:{port}" for port in listening)
    return path, Front(f"http://{rest}", f"grpc://{grpc}", folder / "traffic")


def command(path: Path, *words: str) -> list[str]:
    """nginx as compose starts it, but for the folders."""
    assert NGINX is not None
    return [NGINX, "-e", "stderr", "-p", f"{path.parent}/", "-c", str(path), *words]


@contextlib.contextmanager
def front(text: str, server: Addresses, folder: Path) -> Iterator[Front]:
    """nginx before a server; it ends with the block, when everything in flight is answered."""
    path, at = configured(text, server, folder)
    with (folder / "error.log").open("w") as errors:
        process = subprocess.Popen(command(path), cwd=folder, env=environment(), stderr=errors)
    try:
        wait_for(lambda: process.poll() is not None or listens(at.rest))
        assert process.poll() is None, (folder / "error.log").read_text()
        yield at
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def listens(url: str) -> bool:
    host, _, port = url.rpartition("/")[2].partition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
        return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
