"""Waiting for what another process or thread does: for as long as only a hang would take."""

import time
from collections.abc import Callable

PATIENCE = 300.0


def wait_for(true: Callable[[], object]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, f"waited for {PATIENCE:g} s"
        time.sleep(0.02)
