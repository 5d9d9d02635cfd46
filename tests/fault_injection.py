"""Stops a process at a chosen file-system call.

Faults: `kill` (SIGKILL before the call), `tear` (half of a write, then SIGKILL), `enospc` and `eio`
(the call fails; a write fails after half of its bytes). Any fault that begins with `kill` kills.
Programs that explore all points import this; they fork, so they have no threads when they do.
"""

import builtins
import errno
import fcntl
import io
import os
import signal
from collections.abc import Callable
from typing import Any

CALLS = (
    *((os, name) for name in ("open", "mkdir", "write", "pwrite", "fsync", "rename", "replace")),
    *((os, name) for name in ("unlink", "rmdir", "chmod", "fchmod", "ftruncate", "truncate")),
    *((os, name) for name in ("sendfile", "listdir", "scandir", "stat", "lstat", "fstat")),
    (fcntl, "flock"),
)
DONE, REFUSED, NOT_REACHED, ESCAPED = 0, 7, 50, 99


def inject(fault: str, at: int, armed: Callable[[], bool] = lambda: True) -> Callable[[], bool]:
    """Make the call number `at` fail.

    Args:
        fault: see above.
        at: counts from 1; under `tear` only writes count.
        armed: whether calls count now.

    Returns:
        a function that says whether the call was reached.
    """
    seen = 0

    def strike(write_half: Callable[[], object]) -> None:
        nonlocal seen
        if not armed():
            return
        seen += 1
        if seen != at:
            return
        if fault.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        write_half()
        if fault == "tear":
            os.kill(os.getpid(), signal.SIGKILL)
        code = getattr(errno, fault.upper())
        raise OSError(code, os.strerror(code))

    def wrap(owner: Any, name: str) -> None:
        real = getattr(owner, name)
        writes = name in ("write", "pwrite")
        if fault == "tear" and not writes:
            return

        def call(*args: Any, **kwargs: Any) -> Any:
            strike(lambda: real(args[0], _half(args[1]), *args[2:]) if writes else None)
            return real(*args, **kwargs)

        setattr(owner, name, call)

    class File(io.FileIO):
        """What lies under a stream that is open for writing."""

        def write(self, data: Any) -> int:
            strike(lambda: super(File, self).write(_half(data)))
            return super().write(data)

    for owner, name in CALLS:
        wrap(owner, name)
    opener = _opener(File, (lambda: None) if fault == "tear" else (lambda: strike(lambda: None)))
    builtins.open = io.open = opener  # type: ignore[assignment]
    return lambda: seen >= at


def stopped(
    change: Callable[[], None],
    fault: str,
    at: int,
    *,
    refusals: tuple[type[BaseException], ...],
    armed: Callable[[], bool] = lambda: True,
) -> int:
    """Run a change in a child with one fault.

    Returns:
        the child's exit status: -9 when it was killed, DONE, REFUSED when the change raised one of
        `refusals`, NOT_REACHED when it makes fewer calls, ESCAPED when it raised anything else.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = ESCAPED
    try:
        reached = inject(fault, at, armed)
        change()
        code = DONE if reached() else NOT_REACHED
    except refusals:
        code = REFUSED
    finally:
        os._exit(code)


def _half(data: Any) -> bytes:
    return bytes(data)[: len(data) // 2]


def _opener(file_type: type[io.FileIO], strike: Callable[[], None]) -> Callable[..., Any]:
    """`open`, whose streams write through `file_type`."""
    real = io.open

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        strike()
        if "+" in mode or not set(mode) & set("wxa"):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = file_type(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        stream = io.BufferedWriter(raw)
        return stream if "b" in mode else io.TextIOWrapper(stream, encoding, errors, newline)

    return opened
