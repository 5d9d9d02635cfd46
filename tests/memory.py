"""What a process and all that came from it hold in memory (PSS: what is shared counts once)."""

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path


def tree_pss(root: int) -> int:
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
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def peak_pss(process: "subprocess.Popen[bytes]", seconds: float = 1.0) -> int:
    """Waits for a process, and returns the most that its tree had when it was looked at."""
    peak, looked = 0, time.monotonic()
    while process.poll() is None:
        if time.monotonic() > looked + seconds:  # looking stops the processes for a moment
            peak, looked = max(peak, tree_pss(process.pid)), time.monotonic()
        time.sleep(0.02)
    return peak
