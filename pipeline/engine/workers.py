"""Where the code of steps runs: in this process, or in worker processes beside one another.

Only results come back. A worker that dies is a fault of the step that it ran; the others go on.
"""

from __future__ import annotations

import itertools
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, Self

from bnpipe.pipeline.engine.errors import WorkerDied
from bnpipe.pipeline.engine.events import MadeReady, Progress, Sink
from bnpipe.pipeline.engine.step import Task, execute

_STOP_SECONDS = 1.5
"""Time that steps have to put away what they hold outside, when the run is to stop."""

Ahead = tuple[str, Callable[..., None], tuple[Any, ...]]
"""A name, of a step mostly, and the function and arguments that make its process ready for it."""

DRAWING = "report"
"""The name of what is done when all steps are."""


@dataclass(frozen=True)
class Ended:
    """The end of an attempt: facts, or the error that the step raised."""

    step: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: Exception | None = None


class Executor(Protocol):
    """Runs tasks, `places` of them at the same time."""

    places: int

    def start(self, task: Task) -> int:
        """Begin an attempt; returns the number of the worker, 0 for this process."""

    def choose(self, steps: Sequence[str]) -> str:
        """The one to start, of steps that may."""

    def ahead(self, coming: Sequence[Ahead]) -> None:
        """Let who is idle make ready for what is coming."""

    def wait(self, seconds: float | None) -> list[Ended]:
        """What has ended, as soon as something has; none when the time is up."""

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have something done that is no step, when no step is at work; raises what it raises."""

    def stop(self) -> None:
        """End what is at work."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Here:
    """Runs one task at a time, in this process.

    Args:
        emit: receives progress.
    """

    places = 1

    def __init__(self, emit: Sink) -> None:
        self._emit = emit
        self._task: Task | None = None

    def start(self, task: Task) -> int:
        """Take a task; it runs when its end is waited for."""
        self._task = task
        return 0

    def choose(self, steps: Sequence[str]) -> str:
        """The first."""
        return steps[0]

    def ahead(self, coming: Sequence[Ahead]) -> None:
        """Nobody is idle here."""

    def wait(self, seconds: float | None) -> list[Ended]:
        """Run the task that was started; without one, sleep."""
        task, self._task = self._task, None
        if task is None:
            time.sleep(seconds or 0.0)
            return []
        try:
            facts = execute(task, lambda *how_far: self._emit(Progress(task.step, *how_far)))
        except Exception as error:  # the boundary to the step's own code
            return [Ended(task.step, error=error)]
        return [Ended(task.step, facts)]

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """See `Executor.call`."""
        function(*arguments)

    def stop(self) -> None:
        """Nothing is at work when anybody can say so."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@dataclass(eq=False)
class _Worker:
    """One worker process, and what it is doing.

    Attributes:
        life: a descriptor that can be read when the process has died; None where there is none.
        job: the step or other call that it was given; None while it is idle.
        ahead: the step that it is making ready for.
        prepared: what it was asked to do ahead.
        ready_for: the steps that it did it for.
    """

    number: int
    process: subprocess.Popen[bytes]
    connection: Connection
    life: int | None
    job: str | None = None
    ahead: str | None = None
    prepared: list[Callable[..., None]] = field(default_factory=list)
    ready_for: set[str] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """True when it does nothing at all."""
        return self.job is None and self.ahead is None

    def distance(self, job: str) -> int:
        """How far it is from doing a job: less is better."""
        if self.idle:
            return 0 if job in self.ready_for else 2
        if self.ahead == job:
            return 1
        # Who makes ready for another is sooner done than a new process.
        return 3 if job in self.ready_for else 4

    def send(self, call: bytes) -> None:
        """Ask it for something, pickled."""
        with suppress(OSError):  # it is gone: whoever waits for it will see
            self.connection.send_bytes(call)

    def ending(self) -> str:
        """How it ended, for people; nothing that it started is left."""
        with suppress(subprocess.TimeoutExpired):  # its connection ends a moment before itself
            self.process.wait(_STOP_SECONDS)
        self.kill()
        code = self.process.wait()
        if code == -signal.SIGKILL:
            return "SIGKILL, as when memory runs out"
        if code >= 0:
            return f"exit code {code}"
        names = {number.value: number.name for number in signal.Signals}
        return names.get(-code, f"signal {-code}")  # those of real time have no names

    def close(self) -> None:
        """Let it go: it ends when it has nothing to do."""
        self.connection.close()
        if self.life is not None:
            os.close(self.life)

    def kill(self) -> None:
        """End it and all processes that it started."""
        with suppress(ProcessLookupError, PermissionError):  # nobody is left
            os.killpg(self.process.pid, signal.SIGKILL)


class Workers:
    """Runs tasks in worker processes, which are started when nobody is without a task.

    They are started from the thread that enters, and live no longer than it.

    Args:
        jobs: how many tasks at the same time, at most.
        log: the file for what workers print between tasks.
        emit: receives progress, and what was made ready.
    """

    def __init__(self, jobs: int, log: Path, emit: Sink) -> None:
        self.places = jobs
        self._log = log
        self._emit = emit
        self._workers: list[_Worker] = []
        self._numbers = itertools.count(1)
        self._asked: set[str] = set()

    def start(self, task: Task) -> int:
        """Give a task to who is nearest to it, else to a new worker."""
        return self._give(task.step, "step", task).number

    def choose(self, steps: Sequence[str]) -> str:
        """The one that somebody is nearest to; of equals one that nobody else is ready for."""
        free = [worker for worker in self._workers if worker.job is None]
        ready = {step for worker in self._workers for step in worker.ready_for}

        def rank(step: str) -> tuple[int, bool]:
            return min((worker.distance(step) for worker in free), default=0), step in ready

        return min(steps, key=rank)

    def ahead(self, coming: Sequence[Ahead]) -> None:
        """Ask every idle worker to make ready for one step that nobody was asked for.

        Of steps that take the same preparation, such as two trainers, each gets a worker.
        """
        if coming and len(self._workers) < min(2, self.places):
            with suppress(OSError):  # no memory, or a full disk: nobody needs it yet
                self._new()
        for worker in self._workers:
            for step, function, arguments in coming if worker.idle else ():
                if step not in self._asked and function not in worker.prepared:
                    self._asked.add(step)
                    worker.prepared.append(function)
                    worker.ahead = step
                    worker.send(pickle.dumps(("ahead", function, arguments)))
                    break

    def wait(self, seconds: float | None) -> list[Ended]:
        """See `Executor.wait`; progress is passed on meanwhile."""
        by_connection: dict[Any, _Worker] = {w.connection: w for w in self._workers}
        by_life: dict[Any, _Worker] = {w.life: w for w in self._workers if w.life is not None}
        ready = wait([*by_connection, *by_life], seconds)
        heard = [by_connection[c] for c in ready if c in by_connection]
        ended = [end for worker in heard for end in self._heard(worker)]
        # What a dead worker has forked may hold its connection open; what it said is read first.
        dead = [by_life[life] for life in ready if life in by_life]
        lost = [w for w in dead if w in self._workers and w not in heard]
        return ended + [end for worker in lost for end in self._lost(worker)]

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """See `Executor.call`."""
        worker, ended = self._give(DRAWING, "call", function, arguments), list[Ended]()
        while worker.job is not None and not ended:
            ended = [end for end in self.wait(None) if end.step == DRAWING]
        for end in ended:
            if end.step == DRAWING and end.error is not None:
                raise end.error

    def _give(self, job: str, *call: Any) -> _Worker:
        whole = pickle.dumps(call)
        free = [w for w in self._workers if w.job is None and w.process.poll() is None]
        free.sort(key=lambda w: w.distance(job))
        worker = free[0] if free else self._new()
        worker.job = job
        worker.send(whole)
        return worker

    def _heard(self, worker: _Worker) -> Iterator[Ended]:
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._lost(worker)
            return
        match message:
            case ("progress", done, total, note) if worker.job is not None:
                self._emit(Progress(worker.job, done, total, note))
            case ("ready", started, seconds) if worker.ahead is not None:
                self._emit(MadeReady(worker.number, worker.ahead, started, seconds))
                worker.ready_for.add(worker.ahead)
                worker.ahead = None
            case ("done", facts) if worker.job is not None:
                job, worker.job = worker.job, None
                yield Ended(job, facts)
            case ("failed", error, kind, text, trace) if worker.job is not None:
                job, worker.job = worker.job, None
                error = error or type(kind, (RuntimeError,), {})(text)
                error.add_note(trace)
                yield Ended(job, error=error)

    def _lost(self, worker: _Worker) -> Iterator[Ended]:
        """A worker is gone, and with it what it had made ready."""
        self._workers.remove(worker)
        worker.close()
        how = worker.ending()
        if worker.job is not None:
            yield Ended(worker.job, error=WorkerDied(f"the process that ran it ended ({how})"))

    def _new(self) -> _Worker:
        ours, theirs = socket.socketpair()
        words = ("-m", "bnpipe.pipeline.engine.worker", str(theirs.fileno()), str(os.getpid()))
        with theirs, self._log.open("ab") as log:
            process = subprocess.Popen(
                # -P: nothing is imported from the current folder.
                [sys.executable, "-P", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for us; we tell them
            )
        life = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        worker = _Worker(next(self._numbers), process, Connection(ours.detach()), life)
        self._workers.append(worker)
        with suppress(OSError):
            worker.connection.send(sys.path)
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End all workers; those in a step have a moment to put away what they hold outside."""
        workers, self._workers = self._workers, []
        try:
            for worker in workers:
                if worker.job is not None:
                    worker.process.terminate()
                elif worker.ahead is not None:
                    worker.kill()
                worker.close()
            deadline = time.monotonic() + _STOP_SECONDS
            for worker in workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, deadline - time.monotonic()))
        finally:  # also when the user is in a hurry
            for worker in workers:
                worker.kill()
                worker.process.wait()
