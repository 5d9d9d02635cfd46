"""The tie of a process to the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

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
