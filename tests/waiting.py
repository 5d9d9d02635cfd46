"""Waiting for what another process or thread does: for as long as only a hang would take."""

import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300.0


def wait_for(true: Callable[[], object]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, f"waited for {PATIENCE:g} s"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; also one that nobody has asked about yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
