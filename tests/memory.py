"""What a process and all that came from it hold in memory (PSS: what is shared counts once).

All of it, or what is no file: pages of libraries count less while other programs use them too, so
that PSS as a whole depends on what else the machine does.
"""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

PSS, WITHOUT_FILES = ("Pss:",), ("Pss_Anon:", "Pss_Shmem:")


def tree_pss(root: int, kinds: tuple[str, ...] = PSS) -> int:
    """Bytes of a process and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(OSError):
                parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(entry))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(kinds):
                    total += int(line.split()[1]) * 1024
    return total


def peak_pss(
    process: "subprocess.Popen[Any]", seconds: float = 1.0, kinds: tuple[str, ...] = PSS
) -> int:
    """Waits for a process, and returns the most that its tree had when it was looked at."""
    peak, looked = 0, time.monotonic()
    while process.poll() is None:
        if time.monotonic() > looked + seconds:  # looking stops the processes for a moment
            peak = max(peak, tree_pss(process.pid, kinds))
            looked = time.monotonic()
        time.sleep(0.02)
    return peak
