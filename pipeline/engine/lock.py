"""The locks of a home: who is in it beside others, which runs live, which steps are at work.

    <home>/lock                 shared by runs; held alone by what removes or moves what they use
           locks/runs/<id>      held by a run as long as it lives
                 steps/<key>    held for a step, from before it begins until it is committed

Each is a flock, which the kernel drops when its holder dies; its file names who took it alone last:
`{"pid": 123, "host": "a", "run": "0007", "who": "a run"}`. Only who has the home alone removes
files of `locks/`: else two processes could hold the lock of one name on two inodes.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bnpipe.data.durable import make_folder
from bnpipe.data.flock import MOMENT, is_locked, locked
from bnpipe.data.json_text import json_text
from bnpipe.data.plain_file import listed, read_plain
from bnpipe.pipeline.engine.errors import LockHeld

CLEARING = "a run that clears up"
"""A run that has the home alone, to put it in order before it begins."""
_PATIENCE, _PATIENCE_CLEARING = 2.0, 60.0
"""Seconds that a run waits for who has the home alone, and for one that clears up behind killed
runs: their files may be many, on a slow disk."""


@contextmanager
def alone_in(home: Path) -> Iterator[None]:
    """Keep everybody else out of a home, for gc.

    Raises:
        LockHeld: somebody is at work there; the message names them.
    """
    path = home / "lock"
    with try_lock(path, who="gc") as mine:
        if not mine:
            who = _taker(path)["who"] if is_locked(path) else "another run"
            raise LockHeld(
                f"{who} is at work in {home}: {', '.join(at_work(home)) or 'it just began'}",
                hint="wait for it, or point BNPIPE_HOME at another folder",
            )
        yield


@contextmanager
def run_locks(home: Path) -> Iterator[RunLocks]:
    """Come into a home beside others, and keep those out who must be alone.

    Raises:
        LockHeld: one is at work there; the message names it.
    """
    make_folder(home)
    path = home / "lock"
    with locked(path, shared=True, wait=_PATIENCE) as mine, ExitStack() as held:
        if mine is None and _taker(path)["who"] == CLEARING:
            mine = held.enter_context(locked(path, shared=True, wait=_PATIENCE_CLEARING))
        if mine is None:
            raise LockHeld(
                f"{_taker(path)['who']} is at work in {home}: {_holder(path)}",
                hint="wait for it, or point BNPIPE_HOME at another folder",
            )
        yield RunLocks(home / "locks", held)


class RunLocks:
    """The locks of one run: its own, and those of its steps that are at work.

    Args:
        folder: where they are.
        held: gives them back at the end of the run.
    """

    def __init__(self, folder: Path, held: ExitStack) -> None:
        self._folder = folder
        self._held = held
        self._run: str | None = None
        self._steps: dict[str, ExitStack] = {}

    def begin(self, run: str) -> None:
        """Let others see that a run lives; its number is nobody else's, but they may be looking.

        Raises:
            LockHeld: somebody keeps its lock.
        """
        self._run, path = run, self._folder / "runs" / run
        if not self._held.enter_context(try_lock(path, wait=_PATIENCE, run=run)):
            raise LockHeld(f"{path} is locked by {_holder(path)}", hint="wait for it")

    def take(self, step: str, key: str) -> None:
        """Keep others from a step.

        Raises:
            LockHeld: one is at it; the message names it.
        """
        path = self._folder / "steps" / key
        with ExitStack() as lock:
            if not lock.enter_context(try_lock(path, run=self._run)):
                raise LockHeld(
                    f"step {step} is at work in {_holder(path)}",
                    hint="wait for it, then `bnpipe run` goes on from here",
                )
            self._steps[step] = self._held.enter_context(lock.pop_all())

    def drop(self, step: str) -> None:
        """Let others have a step; nothing happens to one that was not taken."""
        if step in self._steps:
            self._steps.pop(step).close()


@contextmanager
def try_lock(
    path: Path, *, wait: float = MOMENT, run: str | None = None, who: str = "a run"
) -> Iterator[bool]:
    """Take the flock of a file, made if need be; yields whether it was to be had.

    Its process stands in the file, for other machines too.
    """
    make_folder(path.parent)  # others must get through the home to what is served in it
    with locked(path, wait=wait) as descriptor:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            process = {"pid": os.getpid(), "host": platform.node(), "run": run, "who": who}
            os.pwrite(descriptor, json_text(process).encode(), 0)
            os.fsync(descriptor)  # a shared disk would show it when the lock is given back
        yield descriptor is not None


def at_work(home: Path) -> list[str]:
    """Who is at work in a home, for people: its living runs, or who has it alone."""
    locks = (*listed(home / "locks" / "runs"), home / "lock")
    return [_holder(path) for path in locks if is_locked(path)]


def is_living(home: Path, run: str) -> bool:
    """True while a run is at work in this home, on whichever machine."""
    return is_locked(home / "locks" / "runs" / run)


def _holder(path: Path) -> str:
    """The process that took a lock alone last, for people."""
    process = _taker(path)
    words = "process {pid} on {host}".format(**process)
    return f"{words} (run {process['run']})" if process["run"] else words


def _taker(path: Path) -> dict[str, Any]:
    """The file of a lock, as far as it can be read."""
    unknown = {"pid": "unknown", "host": "?", "run": None, "who": "somebody"}
    try:
        return {**unknown, **dict(json.loads(read_plain(path)))}
    except (OSError, ValueError, TypeError):
        return unknown
