"""The run that a tick starts: a process of its own, which ends with the tick or with its group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from bnpipe.data.parent import end_with_parent
from bnpipe.pipeline.engine.errors import ConfigError, Terminated
from bnpipe.pipeline.schedule.claim import Claim

COMMAND = (sys.executable, "-P", "-m", "bnpipe.pipeline")
"""Starts `bnpipe`."""


def trigger_of(claim: Claim) -> dict[str, Any]:
    """The record of what started the run of a claim's last attempt: `trigger` in `run.json`."""
    return {
        "slot": claim.slot.name,
        "attempt": claim.attempts[-1].number,
        "reasons": [asdict(reason) for reason in claim.reasons or ()],
        "parent": os.getpid(),
    }


def read_trigger(text: str) -> Mapping[str, Any]:
    """In the child: take in what started it, and end when that ends.

    Raises:
        ConfigError: it is not what `trigger_of` made.
        Terminated: the tick is gone already.
    """
    try:
        trigger = json.loads(text)
        parent, reasons = trigger["parent"], trigger["reasons"]
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"--trigger is what the schedule writes, received {text!r}") from None
    # A run whose tick was killed would go on with nobody to watch its time limit.
    if not end_with_parent(parent, signal.SIGTERM):
        raise Terminated
    return {"slot": trigger["slot"], "attempt": trigger["attempt"], "reasons": reasons}


def supervise(words: Sequence[str], *, limit: timedelta | None, grace: float, quiet: bool) -> int:
    """Run a command in a process group of its own, and wait for it.

    Args:
        words: the command.
        limit: how long it may take; the group is stopped then.
        grace: seconds between SIGTERM and SIGKILL.
        quiet: its output goes to stderr, because our own stdout is JSON.

    Returns:
        its exit code; negative when a signal ended it.

    Raises:
        TimeoutError: the limit was reached; nothing of the group is left.
        KeyboardInterrupt, Terminated: we are to stop; nothing of the group is left.
    """
    out = sys.stderr.fileno() if quiet else None
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, start_new_session=True)
    try:
        return process.wait(None if limit is None else limit.total_seconds())
    except subprocess.TimeoutExpired:
        raise TimeoutError from None
    finally:
        _stop(process, grace)


def _stop(process: subprocess.Popen[bytes], grace: float) -> None:
    """End a process that is still there, and all that is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(grace)
    with suppress(ProcessLookupError, PermissionError):  # nobody is left of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
