"""Runs a program that the kernel ends when the process that asked for it is gone.

python -m bnpipe.components.infra_validator.tied PARENT_ID PROGRAM ARGUMENT...
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PARENT_IS_GONE = 1


def tie(parent: int) -> None:
    """End this process, or the program that it becomes, with its parent, however that ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(_PARENT_IS_GONE)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
