"""The tie of a process to the one that started it.

python -m bnpipe.data.parent PARENT_ID PROGRAM ARGUMENT... runs a program with that tie.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def end_with_parent(parent: int, number: signal.Signals) -> bool:
    """Have the kernel send this process a signal when its parent dies, however that ends.

    Linux only; elsewhere the process stays. A program that the process becomes (exec) keeps the
    tie. To the kernel the parent is the thread that started the process, not the whole of it.

    Args:
        parent: process id of the parent.
        number: the signal.

    Returns:
        False if the parent is gone already: then no signal will come.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def tie(parent: int) -> None:
    """End this process, or the program that it becomes, with its parent, however that ends."""
    if not end_with_parent(parent, signal.SIGKILL):
        sys.exit(1)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
