"""Runs a program that the kernel ends when the process that asked for it is gone.

python -m bnpipe.components.infra_validator.tied PARENT_ID PROGRAM ARGUMENT...
"""

from __future__ import annotations

import os
import signal
import sys

from bnpipe.data.parent import end_with_parent

_PARENT_IS_GONE = 1


def tie(parent: int) -> None:
    """End this process, or the program that it becomes, with its parent, however that ends."""
    if not end_with_parent(parent, signal.SIGKILL):
        sys.exit(_PARENT_IS_GONE)


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
