"""The jobs of a run on an engine: named, watched, ended, and told of in one line when they fail."""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnpipe.data.engines.errors import EngineError, last_cause
from bnpipe.data.engines.flink import JobManager
from bnpipe.data.engines.job_server import unreachable
from bnpipe.data.engines.job_service import JobService
from bnpipe.data.engines.spark import Driver
from bnpipe.data.errors import BnpipeError
from bnpipe.data.flock import locked

_LOOK_SECONDS = 2.0
_SUBMITTING = 3
"""How many times as long a job may take to be seen at all: it brings 150 MB of classes."""
_APPEAR_SECONDS = 30.0
"""Time for a job to appear on Flink that a job server of others was given."""
_LEAVE_SECONDS = 15.0
"""Time for a job to end that was cancelled."""


def nothing(done: int, total: int, note: str) -> None:
    """Takes progress and tells nobody."""


@dataclass(frozen=True)
class Jobs:
    """Opens the Beam pipelines of a run; it is sent to worker processes.

    Attributes:
        engine: its name, for people.
        flags: for Beam.
        prefix: the beginning of the names of this run's jobs, and of no other's.
        endpoint: address of the job server; empty on an engine without one.
        master: Flink's JobManager.
        driver: Spark's, where it is one of ours.
        stalled_seconds: after how long without a sign of life a job is given up; None where nothing
            tells whether it lives.
        limit_seconds: after how long a job is given up in any case; None for never.
        turn: a file whose lock a job takes, on an engine that does one at a time.
    """

    engine: str
    flags: tuple[str, ...]
    prefix: str
    endpoint: str = ""
    master: JobManager | None = None
    driver: Driver | None = None
    stalled_seconds: float | None = 3600.0
    limit_seconds: float | None = None
    turn: Path | None = None

    @contextmanager
    def __call__(self, progress: Callable[[int, int, str], None] = nothing) -> Iterator[Any]:
        """A Beam pipeline, to be filled in the `with` block, that runs as a job at its end.

        Raises:
            EngineError: the job failed, or nothing was seen of it for too long.
        """
        from bnpipe.data.beam_io import pipeline

        with ExitStack() as stack:
            if self.turn is not None and stack.enter_context(locked(self.turn)) is None:
                progress(0, 0, f"{self.place}: waiting for another step's job")
                stack.enter_context(locked(self.turn, wait=math.inf))
            if gone := self._gone():  # Beam would wait for a minute, and say nothing
                raise gone
            name = f"{self.prefix}{uuid.uuid4().hex[:12]}"
            made = pipeline([*self.flags, f"--job_name={name}"])
            yield made
            with _Watch(self, name, made, progress) as watch:
                error = _run(made, watch)
                if isinstance(error, Exception) and not isinstance(error, BnpipeError):
                    raise self._explained(error, watch) from error
            if error is not None:
                raise error

    def cancel(self, tell: Callable[[str], None]) -> None:
        """End whatever runs of this run, and what the job server is about to begin.

        Args:
            tell: receives what is waited for.

        Raises:
            EngineError: something goes on, or nobody answers.
        """
        deadline = time.monotonic() + _APPEAR_SECONDS
        while self.master and self._coming(self.master) and time.monotonic() < deadline:
            tell(f"waiting for a job that {self.endpoint} submits to {self.place}, to end it")
            time.sleep(1)
        living = self.ender.cancel(self.prefix) if self.ender else []
        if living:
            raise EngineError(f"the jobs {', '.join(living)} go on at {self.place}")

    def _coming(self, master: JobManager) -> set[str]:
        """The jobs of this run that the job server has, and the JobManager has not seen yet."""
        with suppress(EngineError):
            sent = {job["name"] for job in JobService(self.endpoint).living(self.prefix)}
            return sent - {job["name"] for job in master.jobs(self.prefix)}
        return set()

    @property
    def place(self) -> str:
        """The engine and its address, for people."""
        return self.engine if self.master is None else f"Flink at {self.master.address}"

    @property
    def ender(self) -> JobManager | JobService | None:
        """Who ends jobs by name."""
        return self.master or (JobService(self.endpoint) if self.endpoint else None)

    def _gone(self) -> EngineError | None:
        """The job server's end, if that is so."""
        reason = unreachable(self.endpoint) if self.endpoint else None
        text = f"the job server at {self.endpoint} for {self.place} does not answer: {reason}"
        return EngineError(text, may_pass=True) if reason else None

    def _explained(self, error: Exception, watch: _Watch) -> EngineError:
        cause, raised = last_cause(str(error))
        # Of other machines errors come as texts: RuntimeError, or one of gRPC's.
        near = not isinstance(error, RuntimeError) and not type(error).__module__.startswith("grpc")
        host = ""
        if self.master is not None:
            try:
                host = self.master.failed_on(watch.name)
            except EngineError as silent:  # nearer to the cause than what Beam makes of it
                return silent
        if gone := self._gone():
            return gone
        return EngineError(
            f"the Beam job on {self.place} failed{host and f' on {host}'}: {watch.reason or cause}",
            hint="its workers' log says more",
            may_pass=not (raised or near or watch.reason),
        )


def _run(pipeline: Any, watch: _Watch) -> BaseException | None:
    """Runs a Beam pipeline to its end, or until it is given up; returns what ended it.

    It runs in a thread: Beam waits for a server that does not answer as long as that pleases.
    """
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            pipeline.result = pipeline.run()
            pipeline.result.wait_until_finish()
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive() and not watch.left:
        thread.join(0.1)
    return ended[0] if ended else RuntimeError(watch.reason)


class _Watch:
    """Looks at a job from a thread: tells how far it is, and ends it when it has stalled.

    Attributes:
        name: of the job.
        reason: why it was given up; empty if it was not.
        left: whether it did not end when it was given up, and nobody should wait for it.
    """

    def __init__(
        self, jobs: Jobs, name: str, pipeline: Any, progress: Callable[[int, int, str], None]
    ) -> None:
        self.name = name
        self.reason = ""
        self.left = False
        self._pipeline = pipeline
        self._jobs, self._progress = jobs, progress
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._began = self._since = time.monotonic()
        self._seen: Any = None

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._over.set()
        self._thread.join()  # two threads that tell at once would mix their words
        if kind is not None:
            self._cancel()

    def _look(self) -> None:
        while not self._over.wait(_LOOK_SECONDS) and not self.reason:
            note = self._note()
            if not self._over.is_set():
                self._progress(0, 0, f"{self._jobs.place}: {note}")
            now, limit = time.monotonic(), self._jobs.stalled_seconds
            if limit is not None and self._seen is None:
                limit *= _SUBMITTING
            whole = self._jobs.limit_seconds
            if limit is not None and now - self._since > limit:
                self.reason = f"it read and wrote nothing for {limit:.0f} s ({note})"
            elif whole is not None and now - self._began > whole:
                self.reason = f"it is not done after {whole:.0f} s ({note})"
        if self.reason:
            self._cancel()
            self.left = not self._over.wait(_LEAVE_SECONDS)

    def _note(self) -> str:
        """How far the job is, in words."""
        source = self._jobs.driver or self._jobs.ender
        if source is None:
            return "at work"
        try:
            note, activity = source.look(self.name)
        except EngineError as silent:
            return silent.headline
        if activity is not None and activity != self._seen:
            self._seen, self._since = activity, time.monotonic()
        return note

    def _cancel(self) -> None:
        """End the job; the end of the run tries again."""
        ender, result = self._jobs.ender, getattr(self._pipeline, "result", None)
        with suppress(Exception):  # whatever a runner has against it
            if ender is not None:
                ender.cancel(self.name)
            elif result is not None:
                result.cancel()
